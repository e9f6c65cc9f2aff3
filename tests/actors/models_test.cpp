#include <gtest/gtest.h>

#include "base/error.hpp"
#include "tests/actors/cluster_fixture.hpp"

namespace troupe::actors::testing {
namespace {

using namespace std::chrono_literals;

TEST(models, a_cold_model_is_loaded_and_its_request_hears_of_the_progress) {
  cluster nodes;
  nodes.add_worker();
  const auto x = nodes.submit(make_request("a", "hello", 5));
  nodes.run();
  ASSERT_GE(x->progress.size(), 2u) << "before any time has passed";
  EXPECT_EQ(x->progress.front().phase, "queued");
  EXPECT_EQ(x->progress.back().phase, "loading");
  EXPECT_EQ(nodes.status("a").state, "loading");
  nodes.advance(150ms);
  EXPECT_EQ(x->progress.back().done_bytes, 50u);
  EXPECT_EQ(x->progress.back().total_bytes, 100u);
  EXPECT_EQ(nodes.status("a").loaded_bytes, 50u);
  nodes.advance(150ms);
  EXPECT_EQ(x->progress.back().phase, "ready");
  ASSERT_TRUE(x->used);
  EXPECT_TRUE(x->timing->cold);
  EXPECT_EQ(x->text[0], expected_text("hello", 1, 5));
  const auto status = nodes.status("a");
  EXPECT_EQ(status.state, "ready");
  EXPECT_EQ(status.device, "fake@node0");
  EXPECT_EQ(status.resident_bytes, 60u);
  EXPECT_EQ(status.requests, 1u);
  EXPECT_EQ(status.generated_tokens, 5u);
}

TEST(models, many_requests_share_one_load) {
  cluster nodes;
  nodes.add_worker();
  std::vector<std::shared_ptr<recorder>> all;
  for (int i = 0; i < 20; ++i)
    all.push_back(nodes.submit(make_request("a", "p" + std::to_string(i), 5)));
  nodes.advance(300ms);
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(all[i]->used);
    EXPECT_EQ(all[i]->text[0], expected_text("p" + std::to_string(i), 1, 5));
  }
  EXPECT_EQ(nodes.tokenizers_read(), 1u);
}

TEST(models, a_full_queue_refuses_with_retry_after) {
  cluster nodes{{.queue_max = 2}};
  nodes.add_worker();
  std::vector<std::shared_ptr<recorder>> all;
  for (int i = 0; i < 3; ++i)
    all.push_back(nodes.submit(make_request("a", "p" + std::to_string(i), 5)));
  nodes.run();
  size_t refused = 0;
  for (const auto& x : all)
    if (x->failed) {
      ++refused;
      EXPECT_EQ(x->failed->kind, failure_kind::queue_full);
      EXPECT_TRUE(x->failed->retry_after);
    }
  EXPECT_EQ(refused, 1u);
  nodes.advance(300ms);
  for (const auto& x : all)
    EXPECT_TRUE(x->ended());
}

TEST(models, an_idle_model_makes_room_and_a_busy_one_does_not) {
  cluster nodes;
  nodes.add_worker(100);
  const auto x = nodes.submit(make_request("a", "hello", 800));
  nodes.run();
  nodes.advance_clock(300ms);
  nodes.run(60);
  ASSERT_FALSE(x->ended());
  const auto y = nodes.submit(make_request("b", "hello", 5));
  nodes.run(60);
  ASSERT_FALSE(x->ended());
  EXPECT_EQ(nodes.status("b").state, "cold") << "(everything has run: a has ended by now)";
}

TEST(models, eviction_by_recency_under_the_memory_limit) {
  cluster nodes{{.models = {{"a", 40}, {"b", 40}, {"c", 40}}}};
  nodes.add_worker(100);
  for (const auto* model : {"a", "b", "a", "c"}) {
    nodes.submit(make_request(model, "x", 1));
    nodes.advance(400ms);
    nodes.advance(10ms);
  }
  EXPECT_EQ(nodes.status("a").state, "ready");
  EXPECT_EQ(nodes.status("b").state, "cold") << "used longest ago";
  EXPECT_EQ(nodes.status("c").state, "ready");
}

TEST(models, keep_alive_unloads_an_idle_model) {
  cluster nodes{{.keep_alive = 5'000ms}};
  nodes.add_worker();
  nodes.submit(make_request("a", "x", 1));
  nodes.advance(300ms);
  EXPECT_TRUE(nodes.status("a").unload_at);
  nodes.advance(4999ms);
  EXPECT_EQ(nodes.status("a").state, "ready");
  nodes.advance(1ms);
  EXPECT_EQ(nodes.status("a").state, "cold");
}

TEST(models, a_request_may_ask_for_an_unload_at_once) {
  cluster nodes;
  nodes.add_worker();
  auto request = make_request("a", "x", 1);
  request.keep_alive = 0ms;
  const auto x = nodes.submit(std::move(request));
  nodes.advance(300ms);
  ASSERT_TRUE(x->used);
  EXPECT_EQ(nodes.status("a").state, "cold");
}

TEST(models, a_failed_load_reaches_every_waiting_caller_and_is_tried_again_later) {
  cluster nodes;
  nodes.add_worker();
  nodes.break_model("a", "model.safetensors: header is cut short", true);
  const auto x = nodes.submit(make_request("a", "1", 5)),
             y = nodes.submit(make_request("a", "2", 5));
  nodes.advance(300ms);
  for (const auto& z : {x, y}) {
    ASSERT_TRUE(z->failed);
    EXPECT_EQ(z->failed->kind, failure_kind::load_failed);
    EXPECT_NE(z->failed->message.find("header is cut short"), std::string::npos);
    EXPECT_FALSE(z->failed->retry_after) << "broken files stay broken";
  }
  EXPECT_EQ(nodes.status("a").state, "failed");
  nodes.break_model("a", "");
  const auto early = nodes.submit(make_request("a", "3", 5));
  nodes.run();
  EXPECT_TRUE(early->failed);
  nodes.advance(1000ms);
  const auto late = nodes.submit(make_request("a", "4", 5));
  nodes.advance(300ms);
  EXPECT_TRUE(late->used);
  EXPECT_EQ(nodes.status("a").error, "");
}

TEST(models, a_disk_that_cannot_be_read_now_may_be_tried_again) {
  cluster nodes;
  nodes.add_worker();
  nodes.break_model("a", "input/output error");
  const auto x = nodes.submit(make_request("a", "1", 5));
  nodes.advance(300ms);
  ASSERT_TRUE(x->failed);
  EXPECT_TRUE(x->failed->retry_after);
}

TEST(models, a_broken_tokenizer_fails_the_request_and_is_read_again_for_the_next) {
  cluster nodes;
  nodes.add_worker();
  nodes.break_tokenizer("tokenizer.json: not JSON");
  const auto x = nodes.submit(make_request("a", "1", 5));
  nodes.run();
  ASSERT_TRUE(x->failed);
  EXPECT_EQ(x->failed->kind, failure_kind::load_failed);
  EXPECT_EQ(x->failed->message, "tokenizer.json: not JSON");
  nodes.break_tokenizer("");
  const auto y = nodes.submit(make_request("a", "1", 5));
  nodes.advance(300ms);
  EXPECT_TRUE(y->used);
}

TEST(models, a_model_that_fits_nowhere_is_refused_with_its_size) {
  cluster nodes{{.models = {{"a", uint64_t{500} << 20}}}};
  nodes.add_worker(uint64_t{100} << 20);
  const auto x = nodes.submit(make_request("a", "x", 1));
  nodes.run();
  ASSERT_TRUE(x->failed);
  EXPECT_EQ(x->failed->kind, failure_kind::no_capacity);
  EXPECT_NE(x->failed->message.find("500 MiB"), std::string::npos);
}

TEST(models, load_and_unload_answer_when_it_is_done) {
  cluster nodes;
  nodes.add_worker();
  nodes.load("a", true);
  nodes.advance(299ms);
  EXPECT_FALSE(nodes.answer);
  nodes.advance(1ms);
  ASSERT_TRUE(nodes.answer && *nodes.answer);
  EXPECT_EQ((*nodes.answer)->state, "ready");
  EXPECT_TRUE((*nodes.answer)->pinned);
  nodes.advance(std::chrono::hours{24});
  EXPECT_EQ(nodes.status("a").state, "ready") << "pinned";
  nodes.unload("a");
  nodes.run();
  ASSERT_TRUE(nodes.answer && *nodes.answer);
  EXPECT_EQ((*nodes.answer)->state, "cold");
  nodes.break_model("a", "gone");
  nodes.load("a", std::nullopt);
  nodes.advance(300ms);
  ASSERT_TRUE(nodes.answer);
  ASSERT_FALSE(*nodes.answer);
  EXPECT_NE(describe(nodes.answer->error()).find("gone"), std::string::npos);
}

TEST(models, an_unload_lets_running_requests_finish) {
  cluster nodes;
  nodes.add_worker();
  nodes.load("a", std::nullopt);
  nodes.advance(300ms);
  const auto x = nodes.submit(make_request("a", "hello", 200));
  nodes.run(40);
  ASSERT_FALSE(x->ended());
  nodes.unload("a");
  nodes.run(40);
  EXPECT_FALSE(nodes.answer);
  nodes.run();
  EXPECT_EQ(x->text[0], expected_text("hello", 1, 200));
  ASSERT_TRUE(nodes.answer && *nodes.answer);
  EXPECT_EQ(nodes.status("a").state, "cold");
}

TEST(models, an_unload_waits_for_another_device_that_copies_the_weights) {
  cluster nodes;
  nodes.add_worker();
  nodes.load("a", std::nullopt);
  nodes.advance(300ms);
  nodes.lend("a", true);
  nodes.unload("a");
  nodes.advance(10s);
  EXPECT_FALSE(nodes.answer);
  nodes.lend("a", false);
  nodes.run();
  ASSERT_TRUE(nodes.answer && *nodes.answer);
  EXPECT_EQ(nodes.status("a").state, "cold");
}

TEST(models, the_inspector_sees_every_actor) {
  cluster nodes;
  nodes.add_worker();
  nodes.submit(make_request("a", "x", 900));
  nodes.run(30);
  const auto all = nodes.actors();
  ASSERT_FALSE(all.empty());
  EXPECT_EQ(all.front().node, "test");
}

} // namespace
} // namespace troupe::actors::testing
