// What loads cost decides who goes, where a model comes to, and how long it stays.
#include "policies/dispatcher.hpp"

#include <gtest/gtest.h>

namespace troupe::policies {
namespace {

using namespace std::chrono_literals;

struct costs : testing::Test {
  dispatcher policy{{.keep_alive = auto_keep_alive}};
  instant now = instant{} + 1h;
  uint64_t last = 0;

  void SetUp() override {
    for (const auto* name : {"a", "b", "c"})
      policy.add_model({{name}, std::nullopt, false});
  }
  std::vector<intent> ask(const std::string& model, uint64_t bytes = 40'000'000'000) {
    EXPECT_FALSE(policy.enqueue({model}, {{{++last, 0}, 1, now, now, false}}, bytes, {}, now));
    return policy.decide(now);
  }
  /// Asked for, loaded, answered.
  void use(const std::string& model, worker_id worker = 1) {
    const auto cold = policy.cold({model});
    ask(model);
    if (cold)
      policy.loaded(worker, {model}, 40'000'000'000, 8, now);
    policy.decide(now);
    policy.retired(worker, {model}, {last, 0}, 1, now);
    policy.decide(now);
  }
  template <class T>
  static std::vector<T> of(const std::vector<intent>& in) {
    std::vector<T> out;
    for (const auto& x : in)
      if (const auto* found = std::get_if<T>(&x))
        out.push_back(*found);
    return out;
  }
};

TEST_F(costs, what_is_cheap_to_load_again_goes_before_what_was_used_longer_ago) {
  policy.worker_joined(1, "w", 100'000'000'000);
  policy.note_load_cost(1, {"a"}, 40);
  policy.note_load_cost(1, {"b"}, 1);
  use("a");
  now += 3s;
  use("b");
  now += 3s;
  const auto gone = of<unload_intent>(ask("c"));
  ASSERT_EQ(gone.size(), 1u);
  EXPECT_EQ(gone[0].model, model_id{"b"});
}

TEST_F(costs, a_model_comes_to_the_worker_where_it_runs_soonest) {
  policy.worker_joined(1, "slow", 100'000'000'000);
  policy.worker_joined(2, "fast", 50'000'000'000);
  policy.note_load_cost(1, {"a"}, 20);
  policy.note_load_cost(2, {"a"}, 2);
  const auto loads = of<load_intent>(ask("a"));
  ASSERT_EQ(loads.size(), 1u);
  EXPECT_EQ(loads[0].worker, 2u);
}

TEST_F(costs, loads_that_are_under_way_count) {
  policy.worker_joined(1, "w", 100'000'000'000);
  policy.worker_joined(2, "w", 90'000'000'000);
  for (const worker_id worker : {1, 2})
    for (const auto* name : {"a", "b"})
      policy.note_load_cost(worker, {name}, 10);
  EXPECT_EQ(of<load_intent>(ask("a")).at(0).worker, 1u) << "of equal ones that with more room";
  EXPECT_EQ(of<load_intent>(ask("b")).at(0).worker, 2u);
}

TEST_F(costs, a_model_of_no_keep_alive_stays_as_long_as_its_use_and_reload_are_worth_it) {
  policy.worker_joined(1, "w", 100'000'000'000);
  policy.note_load_cost(1, {"a"}, 60);
  policy.note_load_cost(1, {"b"}, 0.01);
  for (int i = 0; i < 20; ++i) {
    for (const auto* name : {"a", "b"})
      use(name);
    now += 100s;
  }
  const auto stays = [&](const char* name) {
    const auto view = policy.view({name});
    return view.unload_at ? *view.unload_at - now : duration{0};
  };
  use("a");
  use("b");
  EXPECT_GE(stays("a"), 100s);
  EXPECT_LT(stays("b"), 40s);
}

struct prefetching : costs {
  prefetching() { policy = dispatcher{{.keep_alive = 60s, .prefetch = true}}; }
  /// Requests for `a` every ten minutes; unloaded in between.
  void ten_rounds() {
    policy.worker_joined(1, "w", 100'000'000'000);
    for (int i = 0; i < 10; ++i) {
      use("a");
      now += 61s;
      policy.decide(now);
      policy.unloaded(1, {"a"}, now);
      seen = 0;
      for (int minute = 0; minute < 9; ++minute) {
        for (const auto& x : of<prefetch_intent>(policy.decide(now += 59850ms))) {
          EXPECT_EQ(x.model, model_id{"a"});
          EXPECT_EQ(x.worker, 1u);
          EXPECT_GT(x.use_rate, 0);
          ++seen;
        }
      }
    }
  }
  int seen = 0;
};

TEST_F(prefetching, a_model_that_went_and_will_be_asked_for_comes_nearer_once) {
  ten_rounds();
  EXPECT_EQ(seen, 1);
  EXPECT_FALSE(policy.next_wakeup(now)) << "nobody is left to look at";
}

TEST_F(prefetching, what_is_loaded_or_waited_for_is_not_prefetched) {
  ten_rounds();
  use("a");
  for (int i = 0; i < 3; ++i) {
    now += 61s;
    const auto done = policy.decide(now); // it is told to go; it still is there
    EXPECT_TRUE(of<prefetch_intent>(done).empty());
  }
  EXPECT_TRUE(policy.next_wakeup(now));
}

} // namespace
} // namespace troupe::policies
