#include <gtest/gtest.h>

#include "tests/actors/cluster_fixture.hpp"

namespace troupe::actors::testing {
namespace {

using namespace std::chrono_literals;
using engine::finish_reason;

struct invocation_test : ::testing::Test {
  cluster nodes;
  /// A cluster with a ready model a.
  void warm() {
    nodes.add_worker();
    nodes.load("a", std::nullopt);
    nodes.advance(300ms);
    ASSERT_EQ(nodes.status("a").state, "ready");
  }
};

TEST_F(invocation_test, a_request_gets_the_text_and_exact_usage) {
  warm();
  const auto x = nodes.submit(make_request("a", "hello", 20, 7));
  nodes.run();
  ASSERT_TRUE(x->used) << (x->failed ? x->failed->message : "did not end");
  EXPECT_EQ(x->accepted, 5u);
  EXPECT_EQ(x->text[0], expected_text("hello", 7, 20));
  EXPECT_EQ(x->finished[0], finish_reason::length);
  EXPECT_EQ(x->used->prompt_tokens, 5u);
  EXPECT_EQ(x->used->completion_tokens, 20u);
  EXPECT_FALSE(x->timing->cold);
  EXPECT_TRUE(x->progress.empty()) << "the model was warm";
  EXPECT_EQ(nodes.running_invocations(), 0u);
}

TEST_F(invocation_test, n_choices_per_prompt_use_consecutive_seeds) {
  warm();
  auto request = make_request("a", "one", 5, 10);
  request.prompts.push_back(text_prompt{"three"});
  request.n = 2;
  const auto x = nodes.submit(std::move(request));
  nodes.run();
  ASSERT_TRUE(x->used);
  EXPECT_EQ(x->text[0], expected_text("one", 10, 5));
  EXPECT_EQ(x->text[1], expected_text("one", 11, 5));
  EXPECT_EQ(x->text[2], expected_text("three", 10, 5));
  EXPECT_EQ(x->text[3], expected_text("three", 11, 5));
  EXPECT_EQ(x->used->prompt_tokens, 8u) << "each prompt counts once";
  EXPECT_EQ(x->used->completion_tokens, 20u);
  EXPECT_EQ(x->finished.size(), 4u);
}

TEST_F(invocation_test, a_stop_string_ends_the_computation_too) {
  warm();
  const auto text = expected_text("hello", 1, 500);
  auto request = make_request("a", "hello", 500);
  request.sampling.stop = {text.substr(10, 3)};
  const auto x = nodes.submit(std::move(request));
  nodes.run();
  ASSERT_TRUE(x->used);
  EXPECT_EQ(x->text[0], text.substr(0, text.find(text.substr(10, 3))));
  EXPECT_EQ(x->finished[0], finish_reason::stop);
  EXPECT_LT(nodes.tokens_computed(), 20u);
  EXPECT_EQ(nodes.sequences_held(), 0u);
  EXPECT_EQ(nodes.status("a").active, 0u);
}

TEST_F(invocation_test, echo_sends_the_prompt_first) {
  warm();
  auto request = make_request("a", "say ", 3);
  request.echo = true;
  const auto x = nodes.submit(std::move(request));
  nodes.run();
  EXPECT_EQ(x->text[0], "say " + expected_text("say ", 1, 3));
}

TEST_F(invocation_test, no_tokens_asked_for_means_none_computed) {
  warm();
  const auto x = nodes.submit(make_request("a", "hello", 0));
  nodes.run();
  ASSERT_TRUE(x->used);
  EXPECT_EQ(x->used->completion_tokens, 0u);
  EXPECT_EQ(x->finished[0], finish_reason::length);
  EXPECT_EQ(nodes.tokens_computed(), 0u);
}

TEST_F(invocation_test, without_max_tokens_the_context_is_the_limit) {
  warm();
  auto request = make_request("a", std::string(880, 'x'), 1);
  request.sampling.max_tokens.reset();
  const auto x = nodes.submit(std::move(request));
  nodes.run();
  ASSERT_TRUE(x->used);
  EXPECT_EQ(x->used->completion_tokens, 120u);
}

TEST_F(invocation_test, a_prompt_beyond_the_context_is_refused_with_the_numbers) {
  warm();
  const auto x = nodes.submit(make_request("a", std::string(990, 'x'), 20));
  const auto y = nodes.submit(make_request("a", std::string(1000, 'x'), 1));
  nodes.run();
  for (const auto& failed : {x->failed, y->failed}) {
    ASSERT_TRUE(failed);
    EXPECT_EQ(failed->kind, failure_kind::context_length_exceeded);
    EXPECT_NE(failed->message.find("maximum context length is 1000 tokens"), std::string::npos);
  }
  EXPECT_NE(x->failed->message.find("1010 tokens (990 in the prompt, 20 in the answer)"),
            std::string::npos);
}

TEST_F(invocation_test, bad_parameters_and_prompts_are_refused_before_anything_is_loaded) {
  nodes.add_worker();
  auto hot = make_request("a", "hello", 5);
  hot.sampling.temperature = -1;
  auto empty = make_request("a", "", 5);
  auto chat = make_request("a", "x", 5);
  chat.prompts = {chat_prompt{}};
  const auto x = nodes.submit(std::move(hot)), y = nodes.submit(std::move(empty)),
             z = nodes.submit(std::move(chat));
  nodes.run();
  ASSERT_TRUE(x->failed && y->failed && z->failed);
  EXPECT_EQ(x->failed->kind, failure_kind::invalid_request);
  EXPECT_EQ(y->failed->kind, failure_kind::invalid_request);
  EXPECT_EQ(y->failed->param, "prompt");
  EXPECT_EQ(z->failed->kind, failure_kind::unsupported);
  EXPECT_EQ(nodes.status("a").state, "cold");
}

TEST_F(invocation_test, what_the_engine_refuses_reaches_the_client) {
  warm();
  const auto x = nodes.submit(make_request("a", std::string(950, 'x'), 5));
  nodes.run();
  ASSERT_TRUE(x->failed);
  EXPECT_EQ(x->failed->kind, failure_kind::invalid_request);
  EXPECT_EQ(x->failed->message, "longer than the KV arena");
  EXPECT_EQ(nodes.status("a").active, 0u);
}

TEST_F(invocation_test, a_cancelled_request_stops_within_a_step_and_is_told_nothing) {
  warm();
  const auto x = nodes.submit(make_request("a", "hello", 900));
  nodes.run(40);
  EXPECT_FALSE(x->ended());
  ASSERT_EQ(nodes.sequences_held(), 1u);
  nodes.cancel(0);
  const auto before = nodes.tokens_computed();
  nodes.run();
  EXPECT_LE(nodes.tokens_computed(), before + 2);
  EXPECT_EQ(nodes.sequences_held(), 0u);
  EXPECT_FALSE(x->ended());
  EXPECT_EQ(nodes.status("a").active, 0u);
}

TEST_F(invocation_test, a_crashed_invocation_leaves_nothing_behind) {
  warm();
  nodes.submit(make_request("a", "hello", 900));
  nodes.run(40);
  ASSERT_EQ(nodes.sequences_held(), 1u);
  nodes.crash_invocation(0);
  nodes.run();
  EXPECT_EQ(nodes.sequences_held(), 0u);
  EXPECT_EQ(nodes.status("a").active, 0u);
  EXPECT_TRUE(nodes.drained());
}

TEST_F(invocation_test, the_timeout_ends_a_request_that_waits) {
  auto request = make_request("a", "hello", 5);
  request.timeout = 2s;
  const auto x = nodes.submit(std::move(request));
  nodes.advance(1999ms);
  EXPECT_FALSE(x->ended());
  nodes.advance(1ms);
  ASSERT_TRUE(x->failed);
  EXPECT_EQ(x->failed->kind, failure_kind::timed_out);
  EXPECT_EQ(nodes.status("a").queued, 0u);
}

TEST_F(invocation_test, tokens_of_an_earlier_epoch_are_dropped) {
  warm();
  const auto x = nodes.submit(make_request("a", "hello", 30));
  nodes.run(30);
  nodes.forge_tokens(0, 0, 0, "XXXXXXXX");
  nodes.forge_tokens(0, 7, 0, "YYYYYYYY");
  nodes.run();
  EXPECT_EQ(x->text[0], expected_text("hello", 1, 30));
}

TEST_F(invocation_test, a_failing_engine_fails_its_requests_and_frees_the_model) {
  warm();
  const auto x = nodes.submit(make_request("a", "hello", 30));
  nodes.break_engine("a");
  nodes.run();
  ASSERT_TRUE(x->failed);
  EXPECT_EQ(x->failed->kind, failure_kind::internal);
  EXPECT_NE(x->failed->message.find("NaN"), std::string::npos);
  EXPECT_EQ(nodes.status("a").state, "cold");
  const auto y = nodes.submit(make_request("a", "hello", 5));
  nodes.advance(300ms);
  EXPECT_TRUE(y->used) << "the next request loads it again";
}

TEST_F(invocation_test, drains_when_the_last_request_has_ended) {
  warm();
  nodes.submit(make_request("a", "hello", 50));
  nodes.run(20);
  EXPECT_TRUE(nodes.drained()) << "answered once the request was through";
  EXPECT_EQ(nodes.running_invocations(), 0u);
}

TEST_F(invocation_test, requests_end_with_the_gateway) {
  warm();
  const auto x = nodes.submit(make_request("a", "hello", 900));
  nodes.run(30);
  nodes.shut_gateway();
  nodes.run();
  ASSERT_TRUE(x->failed);
  EXPECT_EQ(x->failed->kind, failure_kind::shutting_down);
  EXPECT_EQ(nodes.sequences_held(), 0u);
}

TEST_F(invocation_test, logprobs_are_passed_on) {
  warm();
  auto request = make_request("a", "hello", 4);
  request.sampling.top_logprobs = 1;
  const auto x = nodes.submit(std::move(request));
  nodes.run();
  ASSERT_EQ(x->logprobs[0].size(), 4u);
  EXPECT_EQ(x->logprobs[0][2].text, x->text[0].substr(2, 1));
  EXPECT_EQ(x->logprobs[0][2].top.size(), 1u);
}

} // namespace
} // namespace troupe::actors::testing
