#include <gtest/gtest.h>

#include "tests/actors/cluster_fixture.hpp"

namespace troupe::actors::testing {
namespace {

using namespace std::chrono_literals;

/// Streams of 100 tokens in the middle, on a worker that is added for them.
std::vector<std::shared_ptr<recorder>> twenty_streams(cluster& nodes) {
  nodes.add_worker();
  std::vector<std::shared_ptr<recorder>> all;
  for (int i = 0; i < 20; ++i)
    all.push_back(nodes.submit(make_request("a", "stream " + std::to_string(i), 100, i)));
  nodes.run();
  nodes.advance_clock(300ms);
  nodes.run(300);
  return all;
}

TEST(workers, twenty_streams_survive_the_death_of_their_worker_unchanged) {
  cluster nodes{{.sequences_max = 32}};
  const auto all = twenty_streams(nodes);
  size_t begun = 0;
  for (const auto& x : all)
    begun += !x->text[0].empty() && !x->ended();
  ASSERT_GT(begun, 10u) << "the kill must come in the middle";
  nodes.kill_worker(0);
  nodes.run();
  for (const auto& x : all)
    EXPECT_FALSE(x->failed);
  nodes.add_worker();
  nodes.advance(300ms);
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(all[i]->used) << (all[i]->failed ? all[i]->failed->message : "did not end");
    EXPECT_EQ(all[i]->text[0], expected_text("stream " + std::to_string(i), i, 100));
    EXPECT_EQ(all[i]->used->completion_tokens, 100u);
  }
}

TEST(workers, a_failed_device_ends_its_worker_and_streams_go_on_unchanged_on_another) {
  cluster nodes{{.sequences_max = 32}};
  nodes.add_worker();
  const auto x = nodes.submit(make_request("a", "stream", 100, 3));
  nodes.run();
  nodes.advance_clock(300ms);
  nodes.run(100);
  ASSERT_TRUE(!x->text[0].empty() && !x->ended()) << "the failure must come in the middle";
  nodes.lose_device("a");
  nodes.run();
  EXPECT_FALSE(x->failed);
  EXPECT_FALSE(x->used) << "its only worker must be gone";
  nodes.add_worker();
  nodes.advance(300ms);
  ASSERT_TRUE(x->used) << (x->failed ? x->failed->message : "did not end");
  EXPECT_EQ(x->text[0], expected_text("stream", 3, 100));
}

TEST(workers, a_request_that_kills_every_worker_is_given_up) {
  cluster nodes;
  nodes.silence_engine("a");
  const auto x = nodes.submit(make_request("a", "poison", 900));
  int kills = 0;
  for (; kills < 10 && !x->ended(); ++kills) {
    nodes.add_worker();
    nodes.run(200);
    nodes.advance_clock(300ms);
    nodes.run(200);
    ASSERT_EQ(nodes.sequences_held(), 1u);
    nodes.kill_worker(nodes.workers() - 1);
    nodes.run();
  }
  EXPECT_EQ(kills, 6);
  ASSERT_TRUE(x->failed);
  EXPECT_EQ(x->failed->kind, failure_kind::internal);
  EXPECT_NE(x->failed->message.find("lost 6 times"), std::string::npos);
}

TEST(workers, waiting_requests_are_served_when_a_first_worker_joins) {
  cluster nodes;
  const auto x = nodes.submit(make_request("a", "hello", 5));
  nodes.advance(5s);
  EXPECT_FALSE(x->ended());
  EXPECT_FALSE(x->progress.empty()) << "and hear that they wait";
  nodes.add_worker();
  nodes.advance(300ms);
  EXPECT_TRUE(x->used);
}

TEST(workers, without_any_worker_a_request_is_refused_after_a_while) {
  cluster nodes;
  const auto x = nodes.submit(make_request("a", "hello", 5));
  nodes.advance(31s);
  ASSERT_TRUE(x->failed);
  EXPECT_EQ(x->failed->kind, failure_kind::no_capacity);
  EXPECT_TRUE(x->failed->retry_after);
}

TEST(workers, the_room_of_a_worker_is_never_exceeded) {
  cluster nodes{{.sequences_max = 3}};
  nodes.add_worker();
  std::vector<std::shared_ptr<recorder>> all;
  for (int i = 0; i < 30; ++i)
    all.push_back(nodes.submit(make_request("a", "p" + std::to_string(i), 20)));
  nodes.run();
  nodes.advance_clock(300ms);
  while (nodes.run(1) != 0)
    EXPECT_LE(nodes.sequences_held(), 3u);
  for (const auto& x : all)
    EXPECT_TRUE(x->used);
}

TEST(workers, a_leaving_worker_finishes_what_it_has_and_gets_nothing_new) {
  cluster nodes;
  nodes.add_worker();
  const auto x = nodes.submit(make_request("a", "x", 100));
  nodes.run();
  nodes.advance_clock(300ms);
  nodes.run(40);
  ASSERT_FALSE(x->ended());
  nodes.drain_worker(0);
  nodes.run(5);
  nodes.add_worker();
  const auto y = nodes.submit(make_request("a", "y", 100));
  nodes.advance(300ms);
  EXPECT_TRUE(x->used);
  ASSERT_TRUE(y->used);
  EXPECT_EQ(nodes.status("a").device, "fake@node1");
}

TEST(workers, streams_go_on_unchanged_on_a_worker_that_was_gone_and_came_back_unnoticed) {
  cluster nodes{{.sequences_max = 32}};
  const auto all = twenty_streams(nodes);
  ASSERT_FALSE(all[0]->ended()) << "it must come in the middle";
  nodes.rejoin_worker(0);
  nodes.advance(1s);
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(all[i]->used) << (all[i]->failed ? all[i]->failed->message : "did not end");
    EXPECT_EQ(all[i]->text[0], expected_text("stream " + std::to_string(i), i, 100));
    EXPECT_EQ(all[i]->used->completion_tokens, 100u);
  }
  EXPECT_EQ(nodes.sequences_held(), 0u);
  EXPECT_EQ(nodes.loads_begun(), 1u) << "its models stay with it";
}

TEST(workers, a_load_that_ends_after_its_worker_came_back_is_known) {
  cluster nodes;
  nodes.add_worker();
  nodes.load("a", std::nullopt);
  nodes.advance(100ms);
  ASSERT_EQ(nodes.status("a").state, "loading");
  nodes.unload("a"); // nobody asks for it again
  nodes.run();
  nodes.rejoin_worker(0);
  nodes.run();
  ASSERT_EQ(nodes.status("a").state, "cold");
  nodes.advance(300ms);
  EXPECT_EQ(nodes.status("a").state, "ready");
  // Its 60 bytes of 100 count: it has to go before another one of 60 comes.
  const auto x = nodes.submit(make_request("b", "x", 5));
  nodes.advance(1s);
  EXPECT_TRUE(x->used);
  EXPECT_EQ(nodes.status("a").state, "cold");
}

TEST(workers, a_leaving_worker_that_comes_back_gets_nothing_new) {
  cluster nodes;
  nodes.add_worker();
  nodes.drain_worker(0);
  nodes.run();
  nodes.rejoin_worker(0);
  const auto x = nodes.submit(make_request("a", "x", 5));
  nodes.advance(5s);
  EXPECT_FALSE(x->ended());
  EXPECT_EQ(nodes.loads_begun(), 0u);
}

TEST(workers, models_live_on_several_workers) {
  cluster nodes;
  nodes.add_worker(100);
  nodes.add_worker(100);
  const auto x = nodes.submit(make_request("a", "x", 5)),
             y = nodes.submit(make_request("b", "y", 5));
  nodes.advance(300ms);
  EXPECT_TRUE(x->used && y->used);
  EXPECT_EQ(nodes.status("a").state, "ready");
  EXPECT_EQ(nodes.status("b").state, "ready");
  EXPECT_NE(nodes.status("a").device, nodes.status("b").device);
}

} // namespace
} // namespace troupe::actors::testing
