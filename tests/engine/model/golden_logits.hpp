#pragma once
#include "engine/kv/kv_arena.hpp"
#include "engine/model/graph.hpp"
#include "tests/engine/model/golden_model.hpp"

namespace troupe::engine::golden {

/// Logits of the whole prompt in one batch, straight from the graph.
inline std::vector<float> logits_of(const model& model, gpu::device& device,
                                    quantization quantize = quantization::none) {
  auto weights = model_weights::bind(model.config, model.lookup(), device, quantize);
  EXPECT_TRUE(weights) << describe(weights.error());
  const auto rows = static_cast<int64_t>(model.prompt.size());
  engine_options options;
  options.kv_type = dtype::f32;
  options.sequences_max = static_cast<uint32_t>(rows);
  auto kv = kv_arena::create(model.config, plan_kv(model.config, dtype::f32, options), device);
  EXPECT_TRUE(kv);
  auto forward = graph::create(model.config, **weights, device, rows, rows, 16);
  EXPECT_TRUE(forward);
  forward_batch batch;
  batch.tokens = model.prompt;
  for (int32_t i = 0; i < rows; ++i) {
    batch.positions.push_back(i);
    batch.slots.push_back(i);
    batch.logit_rows.push_back(i);
  }
  batch.row_start = {0, static_cast<int32_t>(rows)};
  batch.context = {static_cast<int32_t>(rows)};
  for (int32_t i = 0; i < 16; ++i)
    batch.block_table.push_back(i);
  batch.table_stride = 16;
  auto logits = (*forward)->run(batch, *kv);
  EXPECT_TRUE(logits);
  return {logits->begin(), logits->end()};
}

} // namespace troupe::engine::golden
