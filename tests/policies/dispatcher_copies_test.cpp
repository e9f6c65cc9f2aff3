#include "policies/dispatcher.hpp"

#include <set>

#include <gtest/gtest.h>

namespace troupe::policies {
namespace {

using namespace std::chrono_literals;

/// Workers of 100 bytes each; the model takes 60 and shall have three copies.
struct dispatcher_copies : testing::Test {
  dispatcher policy{{.keep_alive = 60s}};
  instant now{};
  uint64_t last = 0;

  void SetUp() override {
    policy.add_model({.id = {"many"}, .keep_alive = {}, .replicas = 3});
    policy.add_model({.id = {"one"}, .keep_alive = {}});
  }
  void ask(const char* model) {
    policy.enqueue({model}, {{{++last, 0}, 1, now, now, false}}, 60, {}, now);
  }
  std::vector<worker_id> dispatches() {
    std::vector<worker_id> out;
    for (const auto& x : policy.decide(now))
      if (const auto* one = std::get_if<dispatch_intent>(&x))
        out.push_back(one->worker);
    return out;
  }
  void join(worker_id first, worker_id end) {
    for (auto worker = first; worker < end; ++worker)
      policy.worker_joined(worker, "w", 100);
  }
  std::set<worker_id> loads(const char* model) {
    std::set<worker_id> out;
    for (const auto& x : policy.decide(now))
      if (const auto* load = std::get_if<load_intent>(&x); load && load->model.text == model)
        out.insert(load->worker);
    return out;
  }
};

TEST_F(dispatcher_copies, all_are_loaded_at_once) {
  join(1, 6);
  ask("many");
  EXPECT_EQ(loads("many").size(), 3u);
  EXPECT_TRUE(loads("many").empty());
}

TEST_F(dispatcher_copies, a_model_has_one_unless_told_otherwise) {
  join(1, 6);
  ask("one");
  EXPECT_EQ(loads("one").size(), 1u);
}

TEST_F(dispatcher_copies, further_ones_send_nobody_away) {
  join(1, 4);
  for (worker_id worker = 1; worker < 3; ++worker) {
    ask("one");
    for (const auto at : loads("one")) {
      policy.loaded(at, {"one"}, 60, 2, now);
      (void)policy.decide(now);
      policy.retired(at, {"one"}, {last, 0}, 1, now);
    }
  }
  ask("many");
  EXPECT_EQ(loads("many").size(), 2u); // `one` stays where it is
}

TEST_F(dispatcher_copies, those_that_are_missing_come_when_all_are_busy_and_a_worker_joins) {
  join(1, 2);
  ask("many");
  ASSERT_EQ(loads("many"), std::set<worker_id>{1});
  policy.loaded(1, {"many"}, 60, 1, now);
  EXPECT_TRUE(loads("many").empty());
  join(2, 3);
  EXPECT_TRUE(loads("many").empty()); // nobody waits
  ask("many");
  EXPECT_EQ(loads("many"), std::set<worker_id>{2});
  EXPECT_EQ(policy.copies({"many"}, residence::ready), std::vector<worker_id>{1});
}

TEST_F(dispatcher_copies, a_copy_that_fails_is_tried_again_no_sooner_than_others) {
  join(1, 4);
  ask("many");
  ASSERT_EQ(loads("many").size(), 3u);
  policy.loaded(1, {"many"}, 60, 0, now);
  policy.load_failed(2, {"many"}, "gone", false, now);
  ask("many");
  EXPECT_TRUE(loads("many").empty());
  now += 2s;
  EXPECT_EQ(loads("many"), std::set<worker_id>{2});
}

TEST_F(dispatcher_copies, one_that_still_comes_gets_what_a_whole_one_has_no_place_for) {
  join(1, 3);
  ask("many");
  ASSERT_EQ(loads("many").size(), 2u);
  policy.loaded(1, {"many"}, 60, 1, now);
  policy.takes_requests(2, {"many"}, 60, 8, now);
  ask("many");
  EXPECT_EQ(dispatches(), (std::vector<worker_id>{1, 2}));
  EXPECT_FALSE(policy.cold({"many"}));
  EXPECT_TRUE(policy.coming({"many"}));
  EXPECT_EQ(policy.copies({"many"}, residence::ready), std::vector<worker_id>{1});
}

TEST_F(dispatcher_copies, a_load_that_fails_after_it_took_requests_refuses_them) {
  join(1, 2);
  ask("one");
  ASSERT_EQ(loads("one").size(), 1u);
  policy.takes_requests(1, {"one"}, 60, 1, now);
  ASSERT_EQ(dispatches(), std::vector<worker_id>{1});
  ask("one"); // waits
  policy.load_failed(1, {"one"}, "HTTP 503", false, now);
  std::vector<refuse_intent> refused;
  for (const auto& x : policy.decide(now)) {
    if (const auto* one = std::get_if<refuse_intent>(&x))
      refused.push_back(*one);
    EXPECT_FALSE(std::holds_alternative<load_intent>(x));
  }
  ASSERT_EQ(refused.size(), 2u);
  for (const auto& x : refused) {
    EXPECT_EQ(x.why.reason, refusal_reason::load_failed);
    EXPECT_EQ(x.why.message, "HTTP 503");
    EXPECT_FALSE(policy.holds({"one"}, x.id));
  }
}

} // namespace
} // namespace troupe::policies
