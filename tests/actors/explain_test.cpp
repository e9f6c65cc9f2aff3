// What requests are told to expect, and what their records say they went through.
#include <gtest/gtest.h>

#include "actors/foresight.hpp"
#include "actors/load_book.hpp"
#include "actors/peer_plane.hpp"
#include "actors/request_log.hpp"
#include "tests/actors/cluster_fixture.hpp"

namespace troupe::actors::testing {
namespace {

using namespace std::chrono_literals;

invocation_request request_of(const std::string& id, const std::string& model,
                              uint32_t tokens = 4) {
  auto out = make_request(model, "prompt of " + id, tokens);
  out.id.text = id;
  out.answer_id = "chatcmpl-" + id;
  out.tenant = "team";
  return out;
}

TEST(explain, a_cold_request_is_foretold_from_what_the_last_load_took) {
  cluster nodes{{.load_time = 300ms}};
  nodes.add_worker();
  nodes.submit(request_of("first", "a"));
  nodes.advance(300ms);
  const auto first = nodes.record("first");
  ASSERT_TRUE(first && first->forecast && first->load);
  EXPECT_EQ(first->state, request_state::finished);
  EXPECT_EQ(first->forecast->state, "disk");
  EXPECT_NEAR(first->load->seconds.read, 0.3, 1e-6);
  EXPECT_EQ(first->load->bytes[1], 1e9);
  EXPECT_NEAR(first->first_token, 0.3, 0.01);
  EXPECT_GT(first->forecast->first_token, 0.5) << "before anything was measured, it is cautious";

  nodes.submit(request_of("second", "b")); // `a` has to make room
  nodes.run();
  const auto waiting = nodes.record("second");
  ASSERT_TRUE(waiting);
  EXPECT_EQ(waiting->state, request_state::running);
  nodes.advance(300ms);
  const auto second = nodes.record("second");
  ASSERT_TRUE(second && second->forecast && second->load);
  EXPECT_NEAR(second->forecast->load, 0.3, 0.02);
  EXPECT_NEAR(second->forecast->first_token / second->first_token, 1, 0.1);
  EXPECT_EQ(second->worker, "fake@node0");
  EXPECT_EQ(second->tenant, "team");
  EXPECT_EQ(second->completion_tokens, 4u);
}

TEST(explain, a_request_to_a_loaded_model_is_foretold_as_resident_and_has_no_load) {
  cluster nodes;
  nodes.add_worker();
  nodes.submit(request_of("cold", "a"));
  nodes.advance(300ms);
  nodes.submit(request_of("warm", "a"));
  nodes.run();
  const auto warm = nodes.record("chatcmpl-warm");
  ASSERT_TRUE(warm && warm->forecast);
  EXPECT_EQ(warm->forecast->state, "resident");
  EXPECT_EQ(warm->forecast->load, 0);
  EXPECT_FALSE(warm->load);
  EXPECT_EQ(warm->id.text, "warm");
}

/// What is foretold of computing a prompt by a loaded model whose first step took 10 ms, after it
/// had waited with `layers_run` of its layers run, if it had.
double foretold_after_a_step(std::optional<uint32_t> layers_run) {
  cluster nodes{{.arriving = {"a"}}};
  nodes.add_worker();
  nodes.silence_engine("a");
  nodes.weights_of("a", {1000, 600, {}});
  if (layers_run)
    nodes.hold_engine("a", engine::held_step{*layers_run, 8});
  nodes.submit(request_of("cold", "a"));
  nodes.run(200);
  nodes.advance_clock(300ms);
  nodes.run(200);
  nodes.hold_engine("a", std::nullopt);
  nodes.weights_of("a", {1000, 0, {}});
  nodes.run(200);
  nodes.advance_clock(10ms);
  nodes.silence_engine("a", false);
  nodes.run();
  EXPECT_EQ(nodes.record("cold").value().state, request_state::finished);
  nodes.submit(request_of("warm", "a"));
  nodes.run();
  const auto warm = nodes.record("warm");
  EXPECT_TRUE(warm && warm->forecast && warm->forecast->state == "resident");
  return warm->forecast->prefill;
}

TEST(explain, the_last_part_of_a_step_that_waited_for_weights_does_not_count_as_all_of_it) {
  EXPECT_NEAR(foretold_after_a_step(std::nullopt), 0.01, 0.001);
  EXPECT_NEAR(foretold_after_a_step(0), 0.01, 0.001) << "it had only waited";
  EXPECT_LT(foretold_after_a_step(7), 0.001) << "a model of a few bytes of which nothing is known";
}

TEST(explain, who_comes_while_a_load_is_under_way_waits_for_the_rest_of_it) {
  cluster nodes{{.load_time = 400ms}};
  nodes.add_worker();
  nodes.submit(request_of("teaches", "b"));
  nodes.advance(400ms);
  nodes.submit(request_of("begins", "a"));
  nodes.advance(200ms);
  nodes.submit(request_of("joins", "a"));
  nodes.advance(200ms);
  const auto joins = nodes.record("joins");
  ASSERT_TRUE(joins && joins->forecast);
  EXPECT_EQ(joins->forecast->state, "loading");
  EXPECT_NEAR(joins->forecast->load, 0.2, 0.03);
  EXPECT_NEAR(joins->first_token, 0.2, 0.01);
}

TEST(explain, a_lost_worker_shows_as_a_change) {
  cluster nodes;
  nodes.add_worker();
  nodes.submit(request_of("moved", "a", 100));
  nodes.run(20);
  nodes.advance_clock(300ms);
  while (nodes.tokens_computed() < 10)
    nodes.run(1);
  nodes.kill_worker(0);
  nodes.add_worker();
  nodes.advance(300ms);
  const auto moved = nodes.record("moved");
  ASSERT_TRUE(moved);
  EXPECT_EQ(moved->state, request_state::finished);
  EXPECT_EQ(moved->worker_changes, 1u);
  EXPECT_EQ(moved->worker, "fake@node1");
}

TEST(explain, failures_are_named_by_kind_and_hold_no_text) {
  cluster nodes;
  nodes.add_worker();
  nodes.break_model("a", "disk on fire");
  nodes.submit(request_of("fails", "a"));
  nodes.advance(300ms);
  const auto fails = nodes.record("fails");
  ASSERT_TRUE(fails);
  EXPECT_EQ(fails->state, request_state::failed);
  EXPECT_EQ(fails->failure, "load_failed");
  EXPECT_EQ(fails->first_token, 0);
}

TEST(request_log, forgets_the_oldest_and_finds_the_newest_of_one_id) {
  request_log log{3};
  for (uint64_t i = 1; i <= 5; ++i) {
    request_record x;
    x.number = i;
    x.id.text = i == 1 ? "once" : "again";
    x.answer_id = "answer-" + std::to_string(i);
    log.put(x);
    x.total = static_cast<double>(i);
    log.put(x);
  }
  EXPECT_FALSE(log.find("once"));
  EXPECT_FALSE(log.find("answer-2"));
  ASSERT_TRUE(log.find("again"));
  EXPECT_EQ(log.find("again")->number, 5u);
  EXPECT_EQ(log.find("answer-3")->total, 3);
  const auto newest = log.newest(2);
  ASSERT_EQ(newest.size(), 2u);
  EXPECT_EQ(newest[0].number, 5u);
  request_log none{0};
  none.put({});
  EXPECT_TRUE(none.newest(10).empty());
}

TEST(request_log, a_load_is_told_to_those_that_were_over_before_its_account_was_in) {
  request_log log{10};
  request_record x;
  x.is_cold = true;
  for (const auto state : {request_state::finished, request_state::failed}) {
    x.state = state;
    for (const auto* model : {"a", "b"}) {
      ++x.number;
      x.model.text = model;
      x.id.text = model + std::to_string(x.number);
      log.put(x);
    }
  }
  x.number = 9;
  x.id.text = "warm";
  x.model.text = "a";
  x.state = request_state::finished;
  x.is_cold = false;
  log.put(x);
  log.add_load({"a"}, {.seconds = {.total = 2}});
  ASSERT_TRUE(log.find("a1")->load);
  EXPECT_EQ(log.find("a1")->load->seconds.total, 2);
  for (const auto* other : {"b2", "a3", "b4", "warm"})
    EXPECT_FALSE(log.find(other)->load) << other;
  log.add_load({"a"}, {.seconds = {.total = 3}});
  EXPECT_EQ(log.find("a1")->load->seconds.total, 2) << "a later load is not its own";
  x.is_cold = true;
  for (const auto received : {std::chrono::hours{1}, std::chrono::hours{-1}}) {
    ++x.number;
    x.id.text = received.count() > 0 ? "after" : "before";
    x.received = std::chrono::system_clock::now() + received;
    log.put(x);
  }
  EXPECT_FALSE(log.find("after")->load);
  ASSERT_TRUE(log.find("before")->load);
  EXPECT_EQ(log.find("before")->load->seconds.total, 3);
}

TEST(load_book, loads_of_one_worker_queue_and_those_of_another_share_the_tiers) {
  load_book book;
  const instant start = instant{} + 1h;
  const load_account wanted{{"a"}, {0, 2e9, 0, 0, 0}};
  book.announce(1, {"a"}, start);
  const auto alone = book.forecast(1, wanted, start);
  EXPECT_EQ(alone.seconds.queued, 0);
  book.begin(1, {"a"}, start);
  book.announce(1, {"b"}, start);
  auto other = wanted;
  other.model = {"b"};
  const auto behind = book.forecast(1, other, start + 1s);
  EXPECT_NEAR(behind.seconds.queued, alone.seconds.read - 1, 1e-9);
  EXPECT_NEAR(behind.seconds.read, alone.seconds.read, 1e-9);
  const auto beside = book.forecast(2, other, start);
  EXPECT_EQ(beside.seconds.queued, 0);
  EXPECT_GT(beside.seconds.read, 1.9 * alone.seconds.read);
  book.drop(1, {"a"});
  EXPECT_EQ(book.forecast(1, other, start + 1s).seconds.queued, 0);
}

TEST(load_book, an_account_is_complete_when_bytes_and_engine_are_there_in_any_order) {
  load_book book;
  const instant start = instant{} + 1h;
  for (const bool engine_first : {false, true}) {
    book.announce(1, {"a"}, start);
    book.begin(1, {"a"}, start + 500ms);
    const policies::tier_bytes bytes{0, 3e9, 1e9, 0, 0};
    std::optional<load_account> took;
    if (engine_first) {
      EXPECT_FALSE(book.ready(1, {"a"}, 0.1, start + 2s));
      took = book.came(1, {"a"}, bytes, start + 2500ms);
    } else {
      EXPECT_FALSE(book.came(1, {"a"}, bytes, start + 2400ms));
      took = book.ready(1, {"a"}, 0.1, start + 2500ms);
    }
    ASSERT_TRUE(took);
    EXPECT_NEAR(took->seconds.queued, 0.5, 1e-9);
    EXPECT_NEAR(took->seconds.read, engine_first ? 2.0 : 1.9, 1e-9);
    EXPECT_NEAR(took->seconds.total, 2.5, 1e-9);
    EXPECT_FALSE(book.ready(1, {"a"}, 0.1, start + 3s)) << "it is told once";
  }
  EXPECT_NEAR(book.bytes_per_second(policies::load_tier::disk), 3e9 / 1.95, 1e8);
}

TEST(load_book, what_another_device_has_teaches_its_own_rate_alone) {
  load_book book;
  const instant start = instant{} + 1h;
  const auto load = [&](const policies::tier_bytes& bytes, double bind) {
    book.announce(1, {"a"}, start);
    book.begin(1, {"a"}, start + 500ms);
    EXPECT_FALSE(book.came(1, {"a"}, bytes, start + 501ms)); // nothing is read
    const auto took = book.ready(1, {"a"}, bind, start + 1s);
    EXPECT_TRUE(took);
    return took.value_or(load_account{});
  };
  const load_account files{.model = {"a"}, .bytes = {0, 3e9, 0, 0, 0, 0}};
  const auto before = book.forecast(2, files, start);
  for (int i = 0; i < 3; ++i) {
    const auto took = load({0, 0, 0, 0, 0, 2e9}, 0.1);
    EXPECT_EQ(took.seconds.bind, 0);
    EXPECT_EQ(took.seconds.read, 0.1);
    EXPECT_NEAR(took.seconds.total, 1, 1e-9);
    EXPECT_EQ(state_of(took.bytes), "device");
  }
  EXPECT_NEAR(book.bytes_per_second(policies::load_tier::device), 2e9 / 0.1, 1e9);
  const load_account next{.model = {"b"}, .bytes = {0, 0, 0, 0, 0, 4e9}};
  EXPECT_NEAR(book.forecast(2, next, start).seconds.total, 0.2, 0.02);
  // With a draft model from elsewhere nobody knows which of the two the time was for.
  load({0, 1, 0, 0, 0, 2e9}, 10);
  EXPECT_NEAR(book.bytes_per_second(policies::load_tier::device), 2e9 / 0.1, 1e9);
  const auto after = book.forecast(2, files, start);
  EXPECT_EQ(after.seconds.total, before.seconds.total);
}

TEST(load_book, what_comes_from_other_nodes_comes_at_the_same_time_as_what_is_read_here) {
  load_book book;
  const instant start = instant{} + 1h;
  for (const double read : {0.0, 1e9}) {
    book.announce(1, {"a"}, start);
    book.begin(1, {"a"}, start + 500ms);
    EXPECT_FALSE(book.came(1, {"a"}, {3e9, read, 0, 0, 0}, start + 2500ms));
    const auto took = book.ready(1, {"a"}, 0.1, start + 2600ms);
    ASSERT_TRUE(took);
    EXPECT_EQ(took->source, peer_link);
    EXPECT_NEAR(took->seconds.queued, 0.5, 1e-9);
    EXPECT_NEAR(took->seconds.fetch, 2, 1e-9);
    EXPECT_NEAR(took->seconds.read, read > 0 ? 2 : 0, 1e-9);
    EXPECT_NEAR(took->seconds.bytes, 2, 1e-9);
  }
  const load_account next{.model = {"b"}, .bytes = {3e9, 0, 0, 0, 0}, .source = peer_link};
  EXPECT_NEAR(book.forecast(1, next, start + 1min).seconds.bytes, 2, 0.3);
}

} // namespace
} // namespace troupe::actors::testing
