#include <gtest/gtest.h>

#include "engine/errors.hpp"
#include "storage/errors.hpp"
#include "tests/actors/cluster_fixture.hpp"

/// Models whose weights arrive while their engines exist already.
namespace troupe::actors::testing {
namespace {

using namespace std::chrono_literals;

/// A request for the model "a", which takes it with `left` of its 1000 bytes still missing.
std::shared_ptr<recorder> ask_while_it_comes(cluster& nodes, uint64_t left = 600) {
  nodes.add_worker();
  nodes.silence_engine("a");
  nodes.weights_of("a", {1000, left, {}});
  auto out = nodes.submit(make_request("a", "hello", 5));
  nodes.run(200);
  nodes.advance_clock(300ms);
  nodes.run(200);
  return out;
}

TEST(arriving, a_model_is_ready_when_the_rest_of_its_weights_is_half_a_second_away) {
  cluster nodes;
  nodes.add_worker();
  nodes.weights_of("a", {1000, 1000, {}});
  const auto x = nodes.submit(make_request("a", "hello", 5));
  nodes.advance(300ms); // the files are open
  nodes.advance(1s);
  nodes.weights_of("a", {1000, 600, {}}); // 400 in a second
  nodes.run();
  EXPECT_EQ(nodes.status("a").state, "loading");
  EXPECT_FALSE(x->ended());
  nodes.advance(1s);
  nodes.weights_of("a", {1000, 200, {}}); // 800 in two seconds
  nodes.advance(50ms);
  EXPECT_EQ(nodes.status("a").state, "ready");
  ASSERT_TRUE(x->used);
  EXPECT_EQ(x->text[0], expected_text("hello", 1, 5));
}

TEST(arriving, weights_that_will_not_come_end_the_load) {
  cluster nodes;
  nodes.add_worker();
  nodes.weights_of("a", {1000, 1000, {}});
  const auto x = nodes.submit(make_request("a", "hello", 5));
  nodes.advance(300ms);
  nodes.weights_of("a", {1000, 900, caf::make_error(storage::errc::corrupted, "w: at byte 7")});
  nodes.advance(300ms); // what is damaged may be mended, so it is tried once more
  ASSERT_TRUE(x->failed);
  EXPECT_NE(x->failed->message.find("loading model a on node0: w: at byte 7"), std::string::npos)
      << x->failed->message;
  EXPECT_EQ(nodes.sequences_held(), 0u);
}

TEST(arriving, weights_that_fail_at_the_end_take_the_model_with_them) {
  cluster nodes;
  const auto x = ask_while_it_comes(nodes, 0);
  ASSERT_EQ(nodes.sequences_held(), 1u);
  nodes.weights_of("a", {1000, 1, caf::make_error(storage::errc::corrupted, "w: at byte 7")});
  // The sequence goes back to the queue, a load fails, and one more that was to be mended first.
  for (int loads = 0; loads < 3; ++loads)
    nodes.advance(300ms);
  ASSERT_TRUE(x->failed);
  EXPECT_NE(x->failed->message.find("w: at byte 7"), std::string::npos) << x->failed->message;
  EXPECT_EQ(nodes.sequences_held(), 0u);
}

TEST(arriving, a_model_for_which_the_pool_has_no_memory_is_mapped) {
  cluster nodes;
  nodes.add_worker();
  nodes.weights_of("a", {1000, 1000, {}});
  const auto x = nodes.submit(make_request("a", "hello", 5));
  nodes.advance(300ms);
  nodes.weights_of("a", {1000, 900, caf::make_error(storage::errc::no_memory, "no memory")});
  nodes.advance(300ms);
  ASSERT_TRUE(x->used) << (x->failed ? x->failed->message : "did not end");
  EXPECT_EQ(x->text[0], expected_text("hello", 1, 5));
}

TEST(arriving, a_model_whose_weights_another_device_has_no_more_comes_from_its_files) {
  const auto gone = caf::make_error(engine::errc::no_twin, "the weights are to go");
  cluster nodes;
  nodes.add_worker();
  nodes.weights_of("a", {1000, 1000, {}});
  const auto x = nodes.submit(make_request("a", "hello", 5));
  nodes.advance(300ms);
  nodes.weights_of("a", {1000, 900, gone});
  nodes.advance(300ms);
  ASSERT_TRUE(x->used) << (x->failed ? x->failed->message : "did not end");
  EXPECT_EQ(x->text[0], expected_text("hello", 1, 5));
  EXPECT_EQ(nodes.loads_begun(), 2u);
}

TEST(arriving, so_does_one_whose_weights_were_gone_before_its_engine_was_made) {
  cluster nodes;
  nodes.add_worker();
  nodes.lose_twin("a");
  const auto x = nodes.submit(make_request("a", "hello", 5));
  nodes.advance(300ms);
  EXPECT_FALSE(x->ended());
  nodes.advance(300ms);
  ASSERT_TRUE(x->used) << (x->failed ? x->failed->message : "did not end");
  EXPECT_EQ(nodes.loads_begun(), 2u);
}

TEST(arriving, nor_does_it_matter_that_it_runs_already) {
  cluster nodes;
  const auto x = ask_while_it_comes(nodes, 0);
  ASSERT_EQ(nodes.sequences_held(), 1u);
  nodes.weights_of("a", {1000, 1, caf::make_error(engine::errc::no_twin, "the weights are to go")});
  nodes.run(200);
  EXPECT_FALSE(x->ended()) << "it waits for the next load";
  EXPECT_EQ(nodes.loads_begun(), 2u);
}

TEST(arriving, a_model_that_still_comes_makes_no_room_for_others) {
  cluster nodes{{.arriving = {"a"}}};
  nodes.add_worker(100); // has room for one of the two
  nodes.weights_of("a", {1000, 600, {}});
  const auto x = nodes.submit(make_request("a", "hello", 5));
  nodes.advance(300ms);
  ASSERT_TRUE(x->used); // the fixture's engine gives tokens without weights: the model is idle now
  EXPECT_EQ(nodes.status("a").state, "loading");
  const auto y = nodes.submit(make_request("b", "hello", 5));
  for (int seconds = 0; seconds < 60; ++seconds)
    nodes.advance(1s);
  EXPECT_EQ(nodes.status("a").state, "loading");
  EXPECT_FALSE(y->ended());
  nodes.weights_of("a", {1000, 0, {}});
  for (int seconds = 0; seconds < 5; ++seconds)
    nodes.advance(1s);
  EXPECT_TRUE(y->used);
  EXPECT_EQ(nodes.status("b").state, "ready");
}

TEST(arriving, a_model_that_still_comes_goes_when_somebody_says_so) {
  cluster nodes{{.arriving = {"a"}}};
  nodes.add_worker();
  nodes.weights_of("a", {1000, 600, {}});
  nodes.submit(make_request("a", "hello", 5));
  nodes.advance(300ms);
  ASSERT_EQ(nodes.status("a").state, "loading");
  nodes.unload("a");
  nodes.run();
  EXPECT_EQ(nodes.status("a").state, "cold");
}

TEST(arriving, weights_that_stop_coming_fail_those_that_wait_for_them_at_once) {
  cluster nodes{{.arriving = {"a"}}};
  const auto x = ask_while_it_comes(nodes);
  ASSERT_EQ(nodes.sequences_held(), 1u);
  nodes.weights_of("a", {1000, 600, caf::make_error(storage::errc::unavailable, "w: HTTP 503")});
  nodes.run();
  ASSERT_TRUE(x->failed);
  EXPECT_EQ(x->failed->kind, failure_kind::load_failed);
  EXPECT_NE(x->failed->message.find("loading model a on node0: w: HTTP 503"), std::string::npos)
      << x->failed->message;
  EXPECT_TRUE(x->failed->retry_after);
  EXPECT_EQ(nodes.loads_begun(), 1u);
  EXPECT_EQ(nodes.sequences_held(), 0u);
  EXPECT_EQ(nodes.status("a").state, "failed");
  nodes.weights_of("a", {1000, 600, {}});
  nodes.advance(1s);
  nodes.submit(make_request("a", "hello", 5));
  nodes.run(200);
  EXPECT_EQ(nodes.loads_begun(), 2u);
}

TEST(arriving, weights_that_turn_out_wrong_are_loaded_again_when_all_are_there) {
  cluster nodes{{.arriving = {"a"}}};
  const auto x = ask_while_it_comes(nodes);
  nodes.weights_of("a", {1000, 600, caf::make_error(storage::errc::changed, "w has changed")});
  nodes.run(200);
  EXPECT_FALSE(x->ended());
  EXPECT_EQ(nodes.loads_begun(), 2u);
  nodes.weights_of("a", {1000, 0, {}});
  nodes.advance_clock(300ms);
  nodes.run(200);
  EXPECT_EQ(nodes.sequences_held(), 1u);
  EXPECT_FALSE(x->ended());
}

} // namespace
} // namespace troupe::actors::testing
