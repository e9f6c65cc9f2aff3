#pragma once
#include <algorithm>
#include <cmath>

#include "engine/kv/kv_arena.hpp"
#include "engine/model/graph.hpp"
#include "tests/engine/model/golden_model.hpp"

namespace troupe::engine::golden {

/// What the device calls a block where nothing else lies in the memory.
inline int32_t number_of(const kv_arena& kv, int32_t block) {
  return block * static_cast<int32_t>(kv.shape().block_bytes / gpu::kv_granule);
}

/// Logits of the whole prompt in one batch, straight from the graph; of so many copies of it, each
/// a sequence.
inline std::vector<float> logits_of(const model& model, gpu::device& device,
                                    quantization quantize = quantization::none,
                                    int64_t copies = 1) {
  auto weights = model_weights::bind(model.config, model.lookup(), device, quantize);
  EXPECT_TRUE(weights) << describe(weights.error());
  const auto each = static_cast<int64_t>(model.prompt.size()), rows = copies * each;
  const auto blocks = (each + 15) / 16;
  engine_options options;
  options.kv_type = dtype::f32;
  options.sequences_max = static_cast<uint32_t>(rows);
  auto kv =
      kv_arena::create(model.config, plan_kv(model.config, dtype::f32, options), device, nullptr);
  EXPECT_TRUE(kv);
  auto forward = graph::create(model.config, **weights, device, {rows, rows, 16, rows});
  EXPECT_TRUE(forward);
  forward_batch batch;
  for (int64_t copy = 0; copy < copies; ++copy) {
    const auto number = [&](int64_t block) {
      return number_of(*kv, static_cast<int32_t>(copy * blocks + block));
    };
    batch.tokens.insert(batch.tokens.end(), model.prompt.begin(), model.prompt.end());
    for (int64_t i = 0; i < each; ++i) {
      batch.positions.push_back(i);
      batch.slots.push_back(int64_t{number(i / 16)} * 16 + i % 16);
      batch.logit_rows.push_back(static_cast<int32_t>(copy * each + i));
    }
    batch.row_start.push_back(static_cast<int32_t>((copy + 1) * each));
    batch.context.push_back(static_cast<int32_t>(each));
    for (int64_t block = 0; block < blocks; ++block)
      batch.block_table.push_back(number(block));
  }
  batch.table_stride = blocks;
  auto logits = (*forward)->run(batch, *kv);
  EXPECT_TRUE(logits);
  return {logits->begin(), logits->end()};
}

/// The CPU device that computes in float32.
inline std::unique_ptr<gpu::device> exact_device() {
  gpu::device_options options;
  options.threads = 2;
  options.mode = gpu::precision::float32;
  return gpu::make_cpu_device(options);
}

/// Largest difference, in parts of the largest value.
inline float distance(const std::vector<float>& got, const std::vector<float>& want) {
  EXPECT_EQ(got.size(), want.size());
  float worst = 0, largest = 0;
  for (size_t i = 0; i < std::min(got.size(), want.size()); ++i) {
    worst = std::max(worst, std::abs(got[i] - want[i]));
    largest = std::max(largest, std::abs(want[i]));
  }
  return worst / largest;
}

inline void expect_the_logits_of_transformers(const model& model) {
  for (const bool reference : {true, false}) {
    auto device = reference ? gpu::make_reference_device() : exact_device();
    EXPECT_LE(distance(logits_of(model, *device), model.logits), 1e-4f) << device->name();
  }
}

inline void expect_the_greedy_text_of_transformers(const model& model) {
  ASSERT_EQ(model.greedy.size(), 64u);
  engine_options options;
  options.kv_type = dtype::f32;
  for (const bool reference : {true, false}) {
    auto device = reference ? gpu::make_reference_device() : exact_device();
    auto engine = model.open(*device, options);
    ASSERT_TRUE(engine);
    ASSERT_FALSE(engine->add(request(1, model.prompt, 64)));
    EXPECT_EQ(drain(*engine)[1], model.greedy) << device->name();
  }
}

} // namespace troupe::engine::golden
