#pragma once
#include "gpu/ops.hpp"

/// The ops as their definitions read: one loop per index, sums in double, nothing clever.
namespace troupe::gpu::cpu::reference {

void embedding(const embedding_args& args);
void rms_norm(const rms_norm_args& args);
void linear(const linear_args& args);
void quantize(const quantize_args& args);
void rope(const rope_args& args);
void kv_write(const kv_write_args& args);
void attention(const attention_args& args);
void gated_activation(const gated_activation_args& args);
void gather_rows(const gather_rows_args& args);

} // namespace troupe::gpu::cpu::reference
