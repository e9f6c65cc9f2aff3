// What tenants may keep loaded, through the dispatcher.
#include <gtest/gtest.h>

#include "policies/dispatcher.hpp"

namespace troupe::policies {
namespace {

using namespace std::chrono_literals;

struct fixture : testing::Test {
  dispatcher policy{{.keep_alive = 60s, .stay_min = 0s}};
  instant now{};
  uint64_t last = 0;
  std::vector<intent> done;

  void SetUp() override {
    for (const auto* name : {"a", "b", "c", "d"})
      policy.add_model({{name}, std::nullopt, false});
    policy.worker_joined(1, "w", 1000);
  }
  /// Loads come to their end at once, and so do unloads.
  void decide() {
    for (auto& x : policy.decide(now)) {
      done.push_back(x);
      if (const auto* load = std::get_if<load_intent>(&x))
        policy.loaded(1, load->model, 100, 8, now), decide();
      else if (const auto* unload = std::get_if<unload_intent>(&x))
        policy.unloaded(1, unload->model, now), decide();
    }
  }
  std::optional<refusal> ask(const char* model, tenant_caps caps, uint64_t tenant = 1) {
    waiting_sequence x{.id = {++last, 0}, .epoch = 1, .accepted = now, .since = now};
    x.tenant = {tenant, 1};
    x.tenant_name = "acme";
    auto why = policy.enqueue({model}, {x}, 100, std::nullopt, now, caps);
    decide();
    return why;
  }
  void retire(const char* model, uint64_t number) {
    policy.retired(1, {model}, {number, 0}, 1, now);
    now += 1s;
    decide();
  }
  template <class T>
  std::vector<T> take() {
    std::vector<T> out;
    for (const auto& x : std::exchange(done, {}))
      if (const auto* found = std::get_if<T>(&x))
        out.push_back(*found);
    return out;
  }
};
using dispatcher_tenants_test = fixture;

TEST_F(dispatcher_tenants_test, the_model_that_is_let_go_is_unloaded_at_once) {
  const tenant_caps caps{.warm_models = 2};
  for (const auto* model : {"a", "b"}) {
    EXPECT_FALSE(ask(model, caps));
    retire(model, last);
  }
  done.clear();
  EXPECT_FALSE(ask("c", caps));
  const auto gone = take<unload_intent>();
  ASSERT_EQ(gone.size(), 1u);
  EXPECT_EQ(gone[0].model.text, "a");
  EXPECT_EQ(gone[0].reason, unload_reason::tenant_cap);
  EXPECT_FALSE(policy.cold({"c"}));
  EXPECT_FALSE(ask("b", caps)) << "loaded, though not idle for others";
  const auto why = ask("d", caps);
  ASSERT_TRUE(why);
  EXPECT_EQ(why->reason, refusal_reason::tenant_cap);
  EXPECT_EQ(why->cap, quota_kind::warm_models);
  EXPECT_FALSE(policy.holds({"d"}, {last, 0}));
}

TEST_F(dispatcher_tenants_test, only_what_is_loaded_for_this_request_is_a_cold_start) {
  const tenant_caps caps{.cold_starts_per_hour = 1};
  EXPECT_FALSE(ask("a", caps));
  EXPECT_FALSE(ask("a", caps)) << "warm";
  EXPECT_FALSE(ask("b", {}, 2));
  EXPECT_FALSE(ask("b", caps)) << "somebody else has it loaded";
  const auto why = ask("c", caps);
  ASSERT_TRUE(why);
  EXPECT_EQ(why->cap, quota_kind::cold_starts);
  EXPECT_EQ(why->retry_after, 1h);
  now += 1h;
  decide(); // keep-alive
  EXPECT_FALSE(ask("c", caps));
}

TEST_F(dispatcher_tenants_test, requests_that_find_a_place_do_not_wait) {
  const tenant_caps caps{.queue = 1};
  EXPECT_FALSE(ask("a", caps));
  for (int i = 0; i < 7; ++i)
    EXPECT_FALSE(ask("a", caps)) << "eight places";
  policy.room(1, {"a"}, 0, 8, now);
  EXPECT_FALSE(ask("a", caps)) << "one may wait";
  EXPECT_EQ(ask("a", caps)->cap, quota_kind::queue);
  EXPECT_FALSE(ask("b", {.queue = 2})) << "it loads at once, but had to wait for that";
}

TEST_F(dispatcher_tenants_test, what_is_watched_goes_on_and_is_told) {
  tenant_caps caps{.cold_starts_per_hour = 1};
  caps.enforce = false;
  ask("a", caps);
  EXPECT_TRUE(take<watched_intent>().empty());
  EXPECT_FALSE(ask("b", caps));
  const auto told = take<watched_intent>();
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].id.number, last);
  EXPECT_EQ(told[0].why.cap, quota_kind::cold_starts);
  EXPECT_TRUE(policy.holds({"b"}, {last, 0}));
}

TEST_F(dispatcher_tenants_test, who_comes_back_finds_a_place_that_others_were_not_given) {
  const auto running = [&](uint64_t tenant) {
    size_t out = 0;
    for (const auto& x : take<dispatch_intent>())
      out += x.sequence.tenant.id == tenant;
    return out;
  };
  for (int i = 0; i < 7; ++i)
    ask("a", {}, 1);
  EXPECT_EQ(running(1), 7u);
  ask("a", {}, 1);
  EXPECT_EQ(running(1), 1u) << "nobody else is there: it may have all eight";
  for (uint64_t number = 1; number <= 8; ++number)
    retire("a", number);
  ask("a", {}, 2); // 9
  retire("a", 9);
  done.clear();
  for (int i = 0; i < 20; ++i)
    ask("a", {}, 1);
  EXPECT_EQ(running(1), 7u) << "one is kept for tenant 2, which was here lately";
  EXPECT_TRUE(policy.holds_back());
  ask("a", {}, 2);
  EXPECT_EQ(running(2), 1u) << "at once, although others wait";
  ask("a", {}, 2);
  EXPECT_EQ(running(2), 0u) << "but not more than what was kept";
  retire("a", 10);
  EXPECT_EQ(take<dispatch_intent>().size(), 0u) << "that place is kept again";
  retire("a", 11);
  EXPECT_EQ(take<dispatch_intent>().size(), 1u);
}

TEST_F(dispatcher_tenants_test, the_prompt_of_who_has_little_is_urgent_beside_who_has_much) {
  const auto urgent = [&] {
    std::vector<bool> out;
    for (const auto& x : take<dispatch_intent>())
      out.push_back(x.urgent);
    return out;
  };
  for (int i = 0; i < 3; ++i)
    ask("a", {}, 1);
  EXPECT_EQ(urgent(), std::vector<bool>(3, false)) << "one of eight places is kept";
  ask("a", {}, 2);
  EXPECT_EQ(urgent(), std::vector{true});
  ask("a", {}, 2);
  EXPECT_EQ(urgent(), std::vector{false}) << "it runs one already";
  retire("a", 1);
  retire("a", 4);
  retire("a", 5);
  ask("a", {}, 2);
  EXPECT_EQ(urgent(), std::vector{false}) << "two are not much";
}

TEST_F(dispatcher_tenants_test, tenants_who_all_run_little_are_in_no_hurry) {
  for (uint64_t tenant = 1; tenant <= 8; ++tenant)
    ask("a", {}, tenant);
  for (const auto& x : take<dispatch_intent>())
    EXPECT_FALSE(x.urgent) << x.sequence.tenant.id;
}

TEST_F(dispatcher_tenants_test, a_lost_worker_ends_what_its_tenants_held) {
  const tenant_caps caps{.warm_models = 1};
  ask("a", caps);
  policy.worker_lost(1, now);
  decide();
  policy.worker_joined(1, "w", 1000);
  EXPECT_FALSE(ask("b", caps)) << "nothing is loaded any more";
  const waiting_sequence again{
      .id = {1, 0}, .epoch = 2, .accepted = now, .since = now, .resumed = true, .tenant = {1, 1}};
  EXPECT_FALSE(policy.enqueue({"a"}, {again}, 100, std::nullopt, now, caps))
      << "who has begun goes on, whatever its tenant may";
}

} // namespace
} // namespace troupe::policies
