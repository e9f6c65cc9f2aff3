#include <gtest/gtest.h>

#include <filesystem>

#include "cli/bench/measure.hpp"
#include "cli/bench/random_weights.hpp"
#include "cli/bench/shapes.hpp"
#include "engine/errors.hpp"
#include "engine/model/weights.hpp"
#include "gpu/errors.hpp"
#include "tests/storage/model_files.hpp"

namespace troupe::cli::bench {
namespace {

const std::atomic<bool> go_on{false}, stopped{true};

options small() {
  options given;
  given.threads = 2;
  given.reps = 2;
  given.tokens = 3;
  given.batches = {1, 4};
  given.prompts = {40};
  given.contexts = {20};
  return given;
}

TEST(bench_run, every_dtype_gives_tokens_and_counts_the_work) {
  for (const auto& dtype : all_dtypes) {
    auto made = make_subject(small(), {"tiny", ""}, dtype);
    ASSERT_TRUE(made) << dtype << ": " << describe(made.error());
    const auto prefill = measure_prefill(*made, 40, 2, go_on);
    ASSERT_TRUE(prefill && *prefill) << dtype;
    const auto decode = measure_decode(*made, 4, 20, 3, 2, go_on);
    ASSERT_TRUE(decode && *decode) << dtype;
    EXPECT_TRUE(made->engine->idle());
    for (const auto* one : {&**prefill, &**decode}) {
      EXPECT_GT(one->value.least, 0);
      EXPECT_LE(one->value.least, one->value.median);
      EXPECT_LE(one->value.median, one->value.most);
      EXPECT_GT(one->flops, 0);
      EXPECT_EQ(one->dtype, dtype);
      EXPECT_TRUE(one->profile.empty());
    }
  }
}

TEST(bench_run, a_decode_step_reads_every_weight_once_and_the_keys_of_each_sequence) {
  auto made = make_subject(small(), {"tiny", ""}, "bf16");
  ASSERT_TRUE(made);
  // Tied: the embedding is the projection. 2 layers of 64 x 64 + 2 x 32 x 64 + 64 x 64 for q, k, v,
  // o, 3 x 192 x 64 for the gate, and 2 x 64 of norms; 512 x 64 of the vocabulary and a last norm.
  const double parameters = 2 * (64 * 64 * 2 + 32 * 64 * 2 + 3 * 192 * 64 + 128) + 512 * 64 + 64;
  EXPECT_EQ(static_cast<double>(made->weight_bytes), parameters * 2);
  const double kv = 2 * 2 * 32 * 2; // keys and values, layers, width, bytes
  EXPECT_DOUBLE_EQ(made->decode_work(3, 10).bytes, parameters * 2 + 3 * 10 * kv);
  const double products = parameters - 2 * 128 - 64;
  EXPECT_DOUBLE_EQ(made->decode_work(3, 10).flops, 3 * (2 * products + 2 * 4 * 10 * 64.0));
  // Quantized, the embedding is only looked up: the projection has a copy of its own.
  auto packed = make_subject(small(), {"tiny", ""}, "int8");
  ASSERT_TRUE(packed);
  EXPECT_EQ(static_cast<double>(packed->weight_bytes), products / 32 * 34 + (2 * 128 + 64) * 2.0);
}

TEST(bench_run, a_profile_accounts_for_the_ops_of_the_steps_alone) {
  auto given = small();
  given.profile = true;
  auto made = make_subject(given, {"tiny", ""}, "bf16");
  ASSERT_TRUE(made);
  const auto decode = measure_decode(*made, 4, 20, 3, 2, go_on);
  ASSERT_TRUE(decode && *decode);
  EXPECT_EQ((*decode)->profile_steps, 6u);
  std::chrono::nanoseconds sum{};
  uint64_t attention_calls = 0;
  for (const auto& op : (*decode)->profile) {
    sum += op.time;
    if (op.name == "attention")
      attention_calls = op.calls;
  }
  EXPECT_EQ(attention_calls, 6u * 2u); // a layer each
  EXPECT_LE(std::chrono::duration<double>(sum).count(), (*decode)->profile_seconds);
}

TEST(bench_run, load_reads_a_checkpoint_that_it_wrote_and_leaves_nothing_behind) {
  const storage::test::temporary_directory scratch;
  auto given = small();
  given.scratch = scratch.path();
  const auto loads = measure_load(given, {"tiny", ""}, "int4", go_on);
  ASSERT_TRUE(loads) << describe(loads.error());
  ASSERT_EQ(loads->size(), 2u);
  EXPECT_EQ((*loads)[0].variant, "disk");
  EXPECT_EQ((*loads)[1].variant, "page cache");
  EXPECT_GT((*loads)[1].value.least, 0);
  EXPECT_EQ((*loads)[0].bytes, (*loads)[1].bytes);
  EXPECT_TRUE(std::filesystem::is_empty(scratch.path()));
}

TEST(bench_run, a_model_directory_runs_as_it_is_or_quantized_but_in_no_other_type) {
  const std::string dir = std::string{TROUPE_SOURCE_DIR} + "/examples/models/stories-llama";
  const auto chosen = choose(dir);
  ASSERT_TRUE(chosen);
  EXPECT_EQ(chosen->title, "stories-llama");
  auto made = make_subject(small(), *chosen, "");
  ASSERT_TRUE(made) << describe(made.error());
  EXPECT_FALSE(made->dtype.empty());
  EXPECT_TRUE(*measure_prefill(*made, 40, 1, go_on));
  EXPECT_TRUE(make_subject(small(), *chosen, "int8"));
  const auto other = make_subject(small(), *chosen, made->dtype == "f32" ? "f16" : "f32");
  ASSERT_FALSE(other);
  EXPECT_NE(describe(other.error()).find("leave --dtype out"), std::string::npos);
}

TEST(bench_run, too_little_memory_is_said_before_anything_is_taken) {
  auto given = small();
  given.batches = {1024};
  given.contexts = {1 << 20};
  const auto made = make_subject(given, {"llama-3.1-8b", ""}, "f32");
  ASSERT_FALSE(made);
  EXPECT_TRUE(made.error() == engine::errc::out_of_memory);
  EXPECT_NE(describe(made.error()).find("are free"), std::string::npos);
}

TEST(bench_run, a_stop_ends_everything_without_a_result) {
  auto made = make_subject(small(), {"tiny", ""}, "bf16");
  ASSERT_TRUE(made);
  const auto prefill = measure_prefill(*made, 40, 2, stopped);
  ASSERT_TRUE(prefill);
  EXPECT_FALSE(*prefill);
  const auto decode = measure_decode(*made, 4, 20, 3, 2, stopped);
  ASSERT_TRUE(decode);
  EXPECT_FALSE(*decode);
  EXPECT_TRUE(measure_sampling("tiny", 512, 2, stopped).empty());
}

TEST(bench_run, sampling_measures_every_filter) {
  const auto results = measure_sampling("tiny", 512, 2, go_on);
  EXPECT_GE(results.size(), 6u);
  for (const auto& one : results)
    EXPECT_GT(one.value.least, 0) << one.variant;
}

TEST(bench_run, random_weights_are_the_same_every_time_and_small) {
  const auto config =
      engine::parse_model_config(config_json(*find_shape("tiny"), dtype::f32), "tiny");
  ASSERT_TRUE(config);
  const auto one = random_weights::create(*config, dtype::f32, 1);
  const auto two = random_weights::create(*config, dtype::f32, 3);
  ASSERT_TRUE(one && two);
  const auto name = "model.layers.1.mlp.up_proj.weight";
  const auto a = (*one)->find(name), b = (*two)->find(name);
  ASSERT_TRUE(a && b);
  const auto* x = static_cast<const float*>(a->data);
  const auto* y = static_cast<const float*>(b->data);
  bool negative = false, positive = false;
  for (int64_t i = 0; i < 192 * 64; ++i) {
    ASSERT_EQ(x[i], y[i]) << i;
    ASSERT_GE(std::abs(x[i]), 1.0f / 128);
    ASSERT_LE(std::abs(x[i]), 1.0f / 16);
    (x[i] < 0 ? negative : positive) = true;
  }
  EXPECT_TRUE(negative && positive);
  a->drop(a->shape[0]);
  EXPECT_EQ(*static_cast<const float*>((*one)->find(name)->data), y[0]); // filled again
  EXPECT_FALSE((*one)->find("no such tensor"));
}

TEST(bench_run, attention_alone_counts_every_pair_of_positions) {
  auto made = make_subject(small(), {"tiny", ""}, "bf16");
  ASSERT_TRUE(made);
  const auto one = measure_attention(*made, 40, 2);
  ASSERT_TRUE(one) << describe(one.error());
  EXPECT_GT(one->value.least, 0);
  EXPECT_DOUBLE_EQ(one->flops, 4 * (40 * 41 / 2) * 64.0);
}

TEST(bench_run, uploads_are_measured_alone_and_beside_decoding) {
  auto made = make_subject(small(), {"tiny", ""}, "bf16");
  ASSERT_TRUE(made);
  const auto all = measure_upload(*made, 2, go_on);
  ASSERT_TRUE(all) << describe(all.error());
  ASSERT_EQ(all->size(), 5u);
  for (const auto& one : *all)
    EXPECT_GT(one.value.least, 0) << one.variant;
  EXPECT_TRUE(made->engine->idle());
  const auto none = measure_upload(*made, 2, stopped);
  EXPECT_TRUE(none && none->empty());
}

TEST(bench_run, a_device_that_is_not_there_is_refused) {
  auto given = small();
  given.device = "cuda:99";
  EXPECT_EQ(make_device(given).error(), gpu::errc::unavailable);
  given.device = "abacus";
  EXPECT_FALSE(make_device(given));
  EXPECT_EQ(cuda_ordinal("cuda:7"), 7);
  for (const auto* name : {"cpu", "cuda", "cuda:", "cuda:x", "cuda:1x", "cuda:-"})
    EXPECT_FALSE(cuda_ordinal(name)) << name;
}

TEST(bench_run, probes_find_something_and_never_forget_their_best) {
  const auto compute = measure_compute(2);
  for (const auto& one : compute)
    EXPECT_GT(one.ops_per_second, 0) << one.name;
  options given;
  given.threads = 2;
  const auto opened = make_device(given);
  ASSERT_TRUE(opened) << describe(opened.error());
  const auto& device = *opened;
  read_probe reads{2, *device};
  EXPECT_EQ(reads.best(64 << 20), nullptr);
  reads.measure(1);
  const auto* first = reads.best(64 << 20);
  ASSERT_NE(first, nullptr);
  EXPECT_GT(first->bytes_per_second, 0);
  EXPECT_FALSE(first->pattern.empty());
  const double seen = first->bytes_per_second;
  reads.measure(1);
  EXPECT_GE(reads.best(64 << 20)->bytes_per_second, seen);
}

} // namespace
} // namespace troupe::cli::bench
