#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "gpu/cpu/element.hpp"
#include "gpu/cpu/reference_ops.hpp"

namespace troupe::gpu::cpu::reference {
namespace {

/// Element `d` of a token's key or value in one head; `row` counts those.
double cached(const void* data, const float* scales, const kv_cache_view& cache, int64_t row,
              int64_t d) {
  const auto at = row * cache.head_dim + d;
  if (cache.type != dtype::i8)
    return load_element(data, cache.type, at);
  return double{scales[row]} * static_cast<const int8_t*>(data)[at];
}

/// Writes one head of one token as bytes; returns their scale.
float to_bytes(const float* from, int64_t n, int8_t* to) {
  float top = 0;
  bool is_finite = true;
  for (int64_t d = 0; d < n; ++d) {
    top = std::max(top, std::abs(from[d]));
    is_finite = is_finite && std::isfinite(from[d]);
  }
  const bool is_something = is_finite && top >= 1e-30f; // 127 / top overflows for less
  const float inverse = is_something ? 127.0f / top : 0.0f;
  for (int64_t d = 0; d < n; ++d)
    to[d] = is_something ? static_cast<int8_t>(std::nearbyint(from[d] * inverse)) : int8_t{0};
  return !is_finite ? std::numeric_limits<float>::quiet_NaN() : is_something ? top / 127.0f : 0.0f;
}

/// One row of one head: softmax over the whole visible range at once, in double.
class row_attention {
public:
  row_attention(const attention_args& args, int64_t sequence, int64_t head)
      : args_{args}, table_{args.block_table + sequence * args.table_stride},
        kv_head_{head / (args.heads / args.cache.kv_heads)} {}

  /// Attends to positions first..last (both included).
  void run(const float* q, int64_t first, int64_t last, float* out) const {
    const auto dim = args_.cache.head_dim;
    std::vector<double> weights;
    for (auto t = first; t <= last; ++t) {
      double score = 0;
      for (int64_t d = 0; d < dim; ++d)
        score += double{q[d]} * cached(args_.cache.k, args_.cache.k_scales, args_.cache, at(t), d);
      weights.push_back(score * args_.scale);
    }
    const double top = weights.empty() ? 0 : *std::max_element(weights.begin(), weights.end());
    double total = 0;
    for (auto& w : weights)
      total += w = std::exp(w - top);
    for (int64_t d = 0; d < dim; ++d) {
      double sum = 0;
      for (auto t = first; t <= last; ++t)
        sum += weights[static_cast<size_t>(t - first)] *
               cached(args_.cache.v, args_.cache.v_scales, args_.cache, at(t), d);
      out[d] = static_cast<float>(weights.empty() ? 0 : sum / total);
    }
  }

private:
  /// Row of position `t` in the cache.
  int64_t at(int64_t t) const {
    const auto& cache = args_.cache;
    const int64_t block = table_[t / cache.block_size];
    return (block * cache.kv_heads + kv_head_) * cache.block_size + t % cache.block_size;
  }

  const attention_args& args_;
  const int32_t* table_;
  int64_t kv_head_;
};

} // namespace

void kv_write(const kv_write_args& args) {
  const auto& cache = args.cache;
  const auto dim = cache.head_dim;
  const auto store = [&](const float* from, int64_t row, void* data, float* scales) {
    if (cache.type == dtype::i8)
      scales[row] = to_bytes(from, dim, static_cast<int8_t*>(data) + row * dim);
    else
      for (int64_t d = 0; d < dim; ++d)
        store_element(data, cache.type, row * dim + d, from[d]);
  };
  for (int64_t i = 0; i < args.rows; ++i) {
    const auto block = args.slots[i] / cache.block_size;
    const auto offset = args.slots[i] % cache.block_size;
    for (int64_t h = 0; h < cache.kv_heads; ++h) {
      const auto row = (block * cache.kv_heads + h) * cache.block_size + offset;
      store(args.k + i * args.k_stride + h * dim, row, cache.k, cache.k_scales);
      store(args.v + i * args.v_stride + h * dim, row, cache.v, cache.v_scales);
    }
  }
}

void attention(const attention_args& args) {
  for (int64_t s = 0; s < args.sequences; ++s) {
    for (int64_t i = args.row_start[s]; i < args.row_start[s + 1]; ++i) {
      const int64_t last = args.context[s] - (args.row_start[s + 1] - i);
      const int64_t first = args.window > 0 ? std::max(last - args.window + 1, int64_t{0}) : 0;
      for (int64_t h = 0; h < args.heads; ++h)
        row_attention{args, s, h}.run(args.q + i * args.q_stride + h * args.cache.head_dim, first,
                                      last,
                                      args.out + i * args.out_stride + h * args.cache.head_dim);
    }
  }
}

} // namespace troupe::gpu::cpu::reference
