#include "policies/dispatcher.hpp"

#include <gtest/gtest.h>

namespace troupe::policies {
namespace {

using namespace std::chrono_literals;

/// A dispatcher whose intents are kept, and carried out by hand.
struct fixture : testing::Test {
  dispatcher_config config{.queue_max = 3,
                           .keep_alive = 60s,
                           .patience = 1s,
                           .stay_min = 2s,
                           .worker_grace = 30s,
                           .load_pause_first = 1s,
                           .load_pause_max = 4s};
  dispatcher policy{config};
  instant now{};
  std::vector<intent> done;
  uint64_t last = 0;

  void SetUp() override {
    for (const auto* name : {"a", "b", "c"})
      policy.add_model({{name}, std::nullopt, false});
  }
  void decide() {
    for (auto& x : policy.decide(now))
      done.push_back(std::move(x));
  }
  std::optional<refusal> ask(const char* model, const footprint& takes = 60,
                             std::optional<duration> keep_alive = {}) {
    auto why = policy.enqueue({model}, {{{++last, 0}, 1, now, now, false}}, takes, keep_alive, now);
    decide();
    return why;
  }
  template <class T>
  std::vector<T> take() {
    std::vector<T> out;
    std::erase_if(done, [&](const intent& x) {
      const auto* found = std::get_if<T>(&x);
      if (found)
        out.push_back(*found);
      return found != nullptr;
    });
    return out;
  }
  void join(worker_id worker, uint64_t limit = 100) {
    policy.worker_joined(worker, "w", limit);
    decide();
  }
  void ready(const char* model, worker_id worker = 1, const footprint& takes = 60,
             uint32_t room = 2) {
    policy.loaded(worker, {model}, takes, room, now);
    decide();
  }
  void retire(const char* model, uint64_t number, worker_id worker = 1) {
    policy.retired(worker, {model}, {number, 0}, 1, now);
    decide();
  }
  void gone(const char* model, worker_id worker = 1) {
    policy.unloaded(worker, {model}, now);
    decide();
  }
};
using dispatcher_test = fixture;

TEST_F(dispatcher_test, loads_a_cold_model_and_hands_out_once_it_is_ready) {
  join(1);
  EXPECT_FALSE(ask("a"));
  ASSERT_EQ(take<load_intent>().size(), 1u);
  EXPECT_TRUE(take<dispatch_intent>().empty());
  EXPECT_TRUE(policy.cold({"a"}));
  ready("a");
  const auto out = take<dispatch_intent>();
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].sequence.id.number, 1u);
  EXPECT_EQ(out[0].worker, 1u);
}

TEST_F(dispatcher_test, counts_one_workspace_for_all_models_of_a_worker) {
  join(1);
  ask("a", {40, 20});
  ready("a", 1, {40, 20});
  ask("b", {40, 15});
  EXPECT_EQ(take<load_intent>().size(), 2u);
  ready("b", 1, {40, 20}); // more than was thought, and still room
  ask("c", {1, 20});
  EXPECT_TRUE(take<load_intent>().empty());
  ask("c", {70, 31});
  const auto out = take<refuse_intent>();
  ASSERT_EQ(out.size(), 2u);
  EXPECT_EQ(out[0].why.reason, refusal_reason::too_large);
}

TEST_F(dispatcher_test, waits_for_a_first_worker_and_refuses_when_none_comes) {
  EXPECT_FALSE(ask("a"));
  EXPECT_TRUE(done.empty());
  const auto wakeup = policy.next_wakeup(now);
  ASSERT_TRUE(wakeup);
  now = *wakeup;
  decide();
  const auto out = take<refuse_intent>();
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].why.reason, refusal_reason::no_worker);
}

TEST_F(dispatcher_test, hands_out_only_as_much_as_there_is_room) {
  join(1);
  ask("a");
  ready("a", 1, 60, 2);
  ask("a");
  ask("a");
  EXPECT_EQ(take<dispatch_intent>().size(), 2u) << "the room that was announced";
  policy.room(1, {"a"}, 0, 2, now);
  decide();
  EXPECT_TRUE(take<dispatch_intent>().empty());
  policy.room(1, {"a"}, 1, 1, now);
  retire("a", 1);
  EXPECT_EQ(take<dispatch_intent>().size(), 1u);
}

TEST_F(dispatcher_test, a_place_that_is_already_promised_is_not_promised_again) {
  join(1);
  ask("a");
  ready("a", 1, 60, 1);
  ask("a");
  EXPECT_EQ(take<dispatch_intent>().size(), 1u);
  // The worker says so before the first sequence has reached it.
  policy.room(1, {"a"}, 1, 0, now);
  decide();
  EXPECT_TRUE(take<dispatch_intent>().empty());
}

TEST_F(dispatcher_test, refuses_beyond_the_queue_limit_but_takes_resumed_sequences) {
  join(1);
  for (int i = 0; i < 3; ++i)
    EXPECT_FALSE(ask("a"));
  const auto why = ask("a");
  ASSERT_TRUE(why);
  EXPECT_EQ(why->reason, refusal_reason::queue_full);
  EXPECT_GE(why->retry_after, 1s);
  EXPECT_FALSE(policy.enqueue({"a"}, {{{99, 0}, 2, now, now, true}}, 60, {}, now));
  EXPECT_EQ(policy.view({"a"}).queued, 4u);
}

TEST_F(dispatcher_test, evicts_an_idle_model_and_loads_when_its_memory_is_free) {
  join(1);
  ask("a");
  ready("a");
  retire("a", 1);
  take<load_intent>();
  now += 1s;
  ask("b");
  const auto out = take<unload_intent>();
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].model, model_id{"a"});
  EXPECT_EQ(out[0].reason, unload_reason::make_room);
  EXPECT_TRUE(take<load_intent>().empty()) << "not before the room is there";
  gone("a");
  ASSERT_EQ(take<load_intent>().size(), 1u);
}

TEST_F(dispatcher_test, never_evicts_a_model_that_runs_something) {
  join(1);
  ask("a");
  ready("a");
  now += 1h;
  ask("b");
  for (int i = 0; i < 100; ++i) {
    now += 10s;
    decide();
  }
  EXPECT_TRUE(take<unload_intent>().empty());
  retire("a", 1);
  EXPECT_EQ(take<unload_intent>().size(), 1u);
}

TEST_F(dispatcher_test, a_busy_model_gets_no_new_work_once_another_has_waited_its_patience) {
  join(1);
  ask("a");
  ready("a");
  now += 3s;
  ask("b");
  ask("a");
  EXPECT_EQ(take<dispatch_intent>().size(), 2u) << "b has not waited long enough";
  EXPECT_EQ(policy.next_wakeup(now), now + 1s);
  now += 1s;
  decide();
  retire("a", 1);
  ask("a");
  EXPECT_TRUE(take<dispatch_intent>().empty()) << "there is room, but a is closed";
  retire("a", 3);
  EXPECT_EQ(take<unload_intent>().size(), 1u);
  gone("a");
  const auto load = take<load_intent>();
  ASSERT_EQ(load.size(), 2u) << "a at first, now b";
  EXPECT_EQ(load[1].model, model_id{"b"});
}

TEST_F(dispatcher_test, two_models_that_exclude_each_other_take_turns) {
  join(1);
  std::map<std::string, int> served;
  std::map<std::string, size_t> open;
  // Both are asked for all the time; a sequence takes 300 ms, a load 200 ms.
  std::multimap<instant, std::function<void()>> events;
  for (int tick = 0; tick < 600; ++tick) {
    now = instant{} + tick * 100ms;
    while (!events.empty() && events.begin()->first <= now) {
      auto event = std::move(events.begin()->second);
      events.erase(events.begin());
      event();
    }
    for (const auto* model : {"a", "b"})
      if (open[model] < 2 && !ask(model))
        ++open[model];
    decide();
    for (auto& x : std::exchange(done, {})) {
      if (auto* run = std::get_if<dispatch_intent>(&x))
        events.emplace(now + 300ms, [this, run = *run, &served, &open] {
          ++served[run.model.text];
          --open[run.model.text];
          retire(run.model.text.c_str(), run.sequence.id.number);
        });
      else if (auto* load = std::get_if<load_intent>(&x))
        events.emplace(now + 200ms, [this, load = *load] { ready(load.model.text.c_str()); });
      else if (auto* unload = std::get_if<unload_intent>(&x))
        events.emplace(now, [this, unload = *unload] { gone(unload.model.text.c_str()); });
      else
        ADD_FAILURE() << "nothing else was to be expected";
    }
  }
  EXPECT_GT(served["a"], 60);
  EXPECT_GT(served["b"], 60);
}

TEST_F(dispatcher_test, a_model_that_was_just_loaded_runs_something_before_it_makes_room) {
  join(1);
  ask("a");
  ready("a");
  ask("b");
  now += 10s;
  decide();
  retire("a", 1);
  gone("a");
  ask("a");
  now += 10s; // a has waited longer than its patience when b gets ready
  take<dispatch_intent>();
  ready("b");
  EXPECT_EQ(take<dispatch_intent>().size(), 1u);
}

TEST_F(dispatcher_test, a_dismissed_model_that_is_loaded_elsewhere_is_not_dismissed_there) {
  join(1);
  join(2);
  ask("a");
  const auto first = take<load_intent>()[0].worker;
  ready("a", first);
  policy.dismiss({"a"});
  ask("a");
  retire("a", 1, first);
  const auto load = take<load_intent>();
  ASSERT_EQ(load.size(), 1u);
  take<dispatch_intent>();
  ready("a", load[0].worker);
  EXPECT_EQ(take<dispatch_intent>().size(), 1u);
}

TEST_F(dispatcher_test, unloads_an_idle_model_after_its_keep_alive) {
  join(1);
  ask("a");
  ready("a");
  retire("a", 1);
  EXPECT_EQ(policy.next_wakeup(now), now + 60s);
  EXPECT_EQ(policy.view({"a"}).unload_at, now + 60s);
  now += 60s;
  decide();
  const auto out = take<unload_intent>();
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].reason, unload_reason::keep_alive);
}

TEST_F(dispatcher_test, a_request_says_how_long_its_model_stays) {
  join(1);
  ask("a", 60, 0s);
  ready("a");
  retire("a", 1);
  EXPECT_EQ(take<unload_intent>().size(), 1u) << "0 is as soon as it is idle";
  gone("a");
  ask("b", 60, -1s);
  ready("b");
  retire("b", 2);
  now += 1000h;
  decide();
  EXPECT_TRUE(take<unload_intent>().empty()) << "negative is for ever";
}

TEST_F(dispatcher_test, pinned_models_are_loaded_and_stay) {
  join(1);
  policy.want({"a"}, 60, true, now);
  decide();
  EXPECT_EQ(take<load_intent>().size(), 1u);
  ready("a");
  now += 1000h;
  ask("b");
  EXPECT_TRUE(take<unload_intent>().empty());
  const auto out = take<refuse_intent>();
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].why.reason, refusal_reason::too_large);
  EXPECT_NE(out[0].why.message.find("unpin"), std::string::npos);
}

TEST_F(dispatcher_test, a_model_that_fits_nowhere_is_refused_with_the_sizes) {
  join(1, 100u << 20);
  ask("a", 200u << 20);
  const auto out = take<refuse_intent>();
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].why.reason, refusal_reason::too_large);
  EXPECT_NE(out[0].why.message.find("200 MiB"), std::string::npos);
  EXPECT_NE(out[0].why.message.find("100 MiB"), std::string::npos);
  EXPECT_FALSE(policy.next_wakeup(now));
}

TEST_F(dispatcher_test, a_failed_load_fails_all_that_wait_and_is_retried_after_a_pause) {
  join(1);
  ask("a");
  ask("a");
  policy.load_failed(1, {"a"}, "no such file", true, now);
  decide();
  auto out = take<refuse_intent>();
  ASSERT_EQ(out.size(), 2u);
  EXPECT_EQ(out[0].why.reason, refusal_reason::files_broken);
  EXPECT_EQ(out[0].why.message, "no such file");
  EXPECT_EQ(policy.view({"a"}).error, "no such file");
  take<load_intent>();
  now += 500ms;
  EXPECT_TRUE(ask("a")) << "still pausing";
  now += 500ms;
  EXPECT_FALSE(ask("a"));
  EXPECT_EQ(take<load_intent>().size(), 1u);
  ready("a");
  EXPECT_EQ(policy.view({"a"}).error, "");
}

TEST_F(dispatcher_test, a_lost_worker_takes_its_models_with_it_and_resumed_sequences_go_first) {
  join(1);
  ask("a");
  ready("a", 1, 60, 1);
  ask("a");
  take<dispatch_intent>();
  policy.worker_lost(1, now);
  policy.enqueue({"a"}, {{{1, 0}, 2, now, now, true}}, 60, {}, now);
  decide();
  take<load_intent>();
  join(2);
  ASSERT_EQ(take<load_intent>().size(), 1u);
  ready("a", 2, 60, 1);
  const auto out = take<dispatch_intent>();
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].sequence.id.number, 1u);
  EXPECT_EQ(out[0].sequence.epoch, 2u);
  EXPECT_EQ(out[0].worker, 2u);
}

TEST_F(dispatcher_test, a_late_retirement_of_an_earlier_epoch_frees_nothing) {
  join(1);
  ask("a");
  ready("a", 1, 60, 1);
  policy.enqueue({"a"}, {{{1, 0}, 2, now, now, true}}, 60, {}, now);
  decide();
  retire("a", 1); // epoch 1
  EXPECT_TRUE(policy.holds({"a"}, {1, 0}));
}

TEST_F(dispatcher_test, dismissing_lets_running_sequences_finish_and_reloads_for_waiting_ones) {
  join(1);
  ask("a");
  ready("a");
  take<dispatch_intent>();
  take<load_intent>();
  policy.dismiss({"a"});
  decide();
  ask("a");
  EXPECT_TRUE(done.empty()) << "nothing new goes there, and nothing is stopped";
  retire("a", 1);
  EXPECT_EQ(take<unload_intent>()[0].reason, unload_reason::asked);
  gone("a");
  EXPECT_EQ(take<load_intent>().size(), 1u);
}

TEST_F(dispatcher_test, a_worker_that_leaves_gets_nothing_new) {
  join(1);
  join(2);
  ask("a");
  const auto first = take<load_intent>()[0].worker;
  ready("a", first);
  take<dispatch_intent>();
  policy.worker_leaving(first);
  ask("a");
  EXPECT_TRUE(take<dispatch_intent>().empty());
  const auto out = take<load_intent>();
  ASSERT_EQ(out.size(), 1u) << "the model is loaded elsewhere for those that wait";
  EXPECT_NE(out[0].worker, first);
}

TEST_F(dispatcher_test, a_model_that_turns_out_larger_does_not_block_a_reservation_for_ever) {
  join(1);
  policy.add_model({{"d"}, std::nullopt, false});
  ask("a", 40);
  ready("a", 1, 95); // says 95, was thought to take 40
  retire("a", 1);
  take<load_intent>();
  now += 1s;
  ask("b", 40);
  EXPECT_EQ(take<unload_intent>().size(), 1u);
  gone("a");
  EXPECT_EQ(take<load_intent>().size(), 1u);
}

TEST_F(dispatcher_test, a_returning_worker_keeps_its_models_warm) {
  policy.worker_joined(7, "w", 100);
  policy.worker_holds(7, {"a"}, 60, 2, now);
  ask("a");
  EXPECT_EQ(take<dispatch_intent>().size(), 1u);
  EXPECT_TRUE(take<load_intent>().empty());
}

} // namespace
} // namespace troupe::policies
