#pragma once
#include <cstring>

#include "engine/model/weights.hpp"
#include "tests/engine/model/golden_model.hpp"

namespace troupe::engine::golden {

inline void expect_the_same(const gpu::weight& a, const gpu::weight& b) {
  ASSERT_EQ(static_cast<bool>(a), static_cast<bool>(b));
  if (!a)
    return;
  EXPECT_EQ(a.type, b.type);
  EXPECT_EQ(a.layout, b.layout);
  ASSERT_EQ(a.rows, b.rows);
  ASSERT_EQ(a.cols, b.cols);
  EXPECT_EQ(std::memcmp(a.data, b.data, bytes_of(a.type, static_cast<uint64_t>(a.rows * a.cols))),
            0);
}

/// Copies weights and compares every bit, and where it lies.
inline void expect_a_true_copy(const model& of, gpu::device& from, gpu::device& to,
                               quantization quantize) {
  const auto all = std::make_shared<weight_twins>();
  const auto bound = model_weights::bind(of.config, of.lookup(), from, quantize);
  ASSERT_TRUE(bound) << describe(bound.error());
  (*bound)->offer(*all, {"m", quantize}, from, of.checkpoint, {});
  if ((*bound)->own_bytes() == 0) {
    EXPECT_EQ(all->lend({"m", quantize}, to.home()), nullptr);
    return;
  }
  const auto copied = model_weights::copy(of.config, all->lend({"m", quantize}, to.home()), to);
  ASSERT_TRUE(copied) << describe(copied.error());
  ASSERT_FALSE((*copied)->wait(SIZE_MAX));
  const auto &a = **bound, &b = **copied;
  EXPECT_EQ(b.size_bytes, a.size_bytes);
  EXPECT_EQ(b.own_bytes(), a.own_bytes());
  expect_the_same(a.embedding, b.embedding);
  expect_the_same(a.final_norm, b.final_norm);
  expect_the_same(a.head, b.head);
  EXPECT_EQ(a.head.data == a.embedding.data, b.head.data == b.embedding.data);
  ASSERT_EQ(a.layers.size(), b.layers.size());
  for (size_t i = 0; i < a.layers.size(); ++i)
    for (const auto one :
         {&layer_weights::attention_norm, &layer_weights::q, &layer_weights::k, &layer_weights::v,
          &layer_weights::o, &layer_weights::q_bias, &layer_weights::k_bias, &layer_weights::v_bias,
          &layer_weights::o_bias, &layer_weights::q_norm, &layer_weights::k_norm,
          &layer_weights::mlp_norm, &layer_weights::gate, &layer_weights::up, &layer_weights::down,
          &layer_weights::gate_bias, &layer_weights::up_bias, &layer_weights::down_bias})
      expect_the_same(a.layers[i].*one, b.layers[i].*one);
}

} // namespace troupe::engine::golden
