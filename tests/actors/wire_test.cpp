#include <random>

#include <gtest/gtest.h>

#include "actors/cluster_types.hpp"

namespace troupe::actors {
namespace {

/// Encoding is canonical, so that equal bytes mean equal values.
template <class T>
void expect_round_trip(const T& x) {
  const auto bytes = wire::encode(x);
  T copy;
  ASSERT_FALSE(wire::decode(bytes, copy));
  EXPECT_EQ(wire::encode(copy), bytes);
}

run_order sample_order() {
  run_order x{{"org/model"}, {}};
  x.sequence.id = {1ull << 63, 7};
  x.sequence.epoch = 3;
  x.sequence.tokens = {1, 2, -1, 2'000'000'000};
  x.sequence.prompt_size = 2;
  auto& s = x.sequence.sampling;
  s.temperature = 0.7f;
  s.top_p = 0.9f;
  s.top_k = 40;
  s.min_p = 0.05f;
  s.presence_penalty = -1;
  s.frequency_penalty = 2;
  s.repetition_penalty = 1.1f;
  s.logit_bias = {{5, -100.f}, {6, 1.f}};
  s.seed = UINT64_MAX;
  s.top_logprobs = 20;
  s.max_tokens = 100;
  s.min_tokens = 10;
  s.ignore_eos = true;
  s.stop_token_ids = {9, 10};
  x.sequence.salt = 1ull << 63;
  x.sequence.urgent = true;
  return x;
}

TEST(wire, a_run_order_keeps_every_field) {
  const auto x = sample_order();
  run_order y;
  ASSERT_FALSE(wire::decode(wire::encode(x), y));
  EXPECT_EQ(y.model, x.model);
  EXPECT_EQ(y.sequence.id, x.sequence.id);
  EXPECT_EQ(y.sequence.epoch, 3u);
  EXPECT_EQ(y.sequence.tokens, x.sequence.tokens);
  EXPECT_EQ(y.sequence.prompt_size, 2u);
  EXPECT_EQ(y.sequence.salt, x.sequence.salt);
  EXPECT_TRUE(y.sequence.urgent);
  const auto &a = x.sequence.sampling, &b = y.sequence.sampling;
  EXPECT_EQ(a.temperature, b.temperature);
  EXPECT_EQ(a.top_p, b.top_p);
  EXPECT_EQ(a.top_k, b.top_k);
  EXPECT_EQ(a.min_p, b.min_p);
  EXPECT_EQ(a.presence_penalty, b.presence_penalty);
  EXPECT_EQ(a.frequency_penalty, b.frequency_penalty);
  EXPECT_EQ(a.repetition_penalty, b.repetition_penalty);
  EXPECT_EQ(a.logit_bias, b.logit_bias);
  EXPECT_EQ(a.seed, b.seed);
  EXPECT_EQ(a.top_logprobs, b.top_logprobs);
  EXPECT_EQ(a.max_tokens, b.max_tokens);
  EXPECT_EQ(a.min_tokens, b.min_tokens);
  EXPECT_EQ(a.ignore_eos, b.ignore_eos);
  EXPECT_EQ(a.stop_token_ids, b.stop_token_ids);
}

TEST(wire, tokens_keep_offset_epoch_finish_and_logprobs) {
  const token_batch x{
      {{{5, 1}, 2, 77, 123, engine::finish_reason::length, -0.5f, {{1, -1.f}, {2, -2.f}}, 48, 3},
       {{5, 2}, 1, 0, 0, engine::finish_reason::stop, 0, {}, 0, 0}},
      std::chrono::microseconds{1234},
      true};
  token_batch y;
  ASSERT_FALSE(wire::decode(wire::encode(x), y));
  EXPECT_EQ(y.computing, x.computing);
  EXPECT_EQ(y.is_part, x.is_part);
  ASSERT_EQ(y.events.size(), 2u);
  EXPECT_EQ(y.events[0].id, (sequence_id{5, 1}));
  EXPECT_EQ(y.events[0].epoch, 2u);
  EXPECT_EQ(y.events[0].offset, 77u);
  EXPECT_EQ(y.events[0].token, 123);
  EXPECT_EQ(y.events[0].finish, engine::finish_reason::length);
  EXPECT_EQ(y.events[0].top[1].logprob, -2.f);
  EXPECT_EQ(y.events[0].reused, 48u);
  EXPECT_EQ(y.events[0].preempted, 3u);
  EXPECT_EQ(y.events[1].finish, engine::finish_reason::stop);
}

TEST(wire, a_load_order_keeps_its_options) {
  load_order x;
  x.model = {"m"};
  x.dir = "/models/ü m";
  x.origin = "s3://bucket/ü";
  x.options = {1ull << 40, 32, 8, 77, 256, 4096, false, 5, engine::quantization::int4, dtype::bf16};
  x.options.step_target = std::chrono::milliseconds{40};
  x.options.swap_bytes = 3u << 20;
  x.draft_dir = "/models/small";
  x.weight_bytes = 5ull << 33;
  x.holders = {":4000", "[::1]:4001"};
  x.together = {"a:1", "b:2", "c:3"};
  x.place = 2;
  load_order y;
  ASSERT_FALSE(wire::decode(wire::encode(x), y));
  EXPECT_EQ(y.dir, x.dir);
  EXPECT_EQ(y.origin, x.origin);
  EXPECT_EQ(y.draft_dir, x.draft_dir);
  EXPECT_EQ(y.weight_bytes, x.weight_bytes);
  EXPECT_EQ(y.holders, x.holders);
  EXPECT_EQ(y.together, x.together);
  EXPECT_EQ(y.place, 2u);
  EXPECT_EQ(y.options.kv_bytes, 1ull << 40);
  EXPECT_EQ(y.options.waiting_max, 77u);
  EXPECT_FALSE(y.options.reuse_prefixes);
  EXPECT_EQ(y.options.draft_tokens_max, 5u);
  EXPECT_EQ(y.options.quantize, engine::quantization::int4);
  EXPECT_EQ(y.options.kv_type, dtype::bf16);
  EXPECT_EQ(y.options.step_target, std::chrono::milliseconds{40});
  EXPECT_EQ(y.options.swap_bytes, 3u << 20);
  x.options.kv_type.reset();
  ASSERT_FALSE(wire::decode(wire::encode(x), y));
  EXPECT_FALSE(y.options.kv_type);
}

TEST(wire, every_other_message_survives_a_round_trip) {
  const residence_report residence{{"m"}, {1, 13}, 2, 3, 0.25, 4, {5, 6, 7, 8, 9, 10, 11}, 12};
  const sequence_ref ref{{"m"}, {9, 8}, 7};
  expect_round_trip(ref);
  expect_round_trip(sequence_loss{ref, loss_kind::internal, "why"});
  expect_round_trip(worker_hello{1, "node", "cpu", 1u << 30, {residence, residence}, "host:1", 14});
  expect_round_trip(worker_report{{residence}, {ref}, true, {{ref, 5, 48}}});
  expect_round_trip(model_ref{{"m"}});
  expect_round_trip(load_progress{{"m"}, "loading", 1, 2});
  expect_round_trip(load_outcome{residence, 1.5, 77, "broken", true});
  const load_account account{
      {"m"}, {1, 2, 3, 4, 5, 6}, {0.5, 1.5, 2.5, 3.5, 4.5, 5.5}, "huggingface.co"};
  expect_round_trip(account);
  load_account copy;
  ASSERT_FALSE(wire::decode(wire::encode(account), copy));
  EXPECT_EQ(copy.bytes, account.bytes);
  EXPECT_EQ(copy.seconds.bind, 4.5);
  EXPECT_EQ(copy.source, account.source);
  expect_round_trip(actor_list{{{1, "n", "t", "node", 2, "s", 3, 4, 5.5, "d"}}});
}

TEST(wire, garbage_is_an_error_and_never_a_crash) {
  std::mt19937_64 random{11};
  const auto good = wire::encode(sample_order());
  for (int i = 0; i < 20'000; ++i) {
    auto bytes = good;
    if (i % 4 == 0) {
      bytes.resize(random() % 200);
      for (auto& c : bytes)
        c = static_cast<char>(random());
    } else {
      for (size_t n = 1 + random() % 4; n > 0; --n)
        bytes[random() % bytes.size()] = static_cast<char>(random());
      if (i % 4 == 1)
        bytes.resize(random() % bytes.size());
    }
    // Whatever comes out, it came out; most of it is an error.
    run_order order;
    worker_hello hello;
    token_batch batch;
    load_order load;
    actor_list actors;
    load_account account;
    (void)wire::decode(bytes, account);
    (void)wire::decode(bytes, order);
    (void)wire::decode(bytes, hello);
    (void)wire::decode(bytes, batch);
    (void)wire::decode(bytes, load);
    (void)wire::decode(bytes, actors);
  }
  run_order order;
  for (const std::string bytes : {"", "1234567", "12345678", "\xff\xff\xff\xff\xff\xff\xff\xff"})
    EXPECT_TRUE(wire::decode(bytes, order)) << bytes;
  EXPECT_TRUE(wire::decode(good.substr(0, good.size() / 2), order));
}

} // namespace
} // namespace troupe::actors
