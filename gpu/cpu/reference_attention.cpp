#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "gpu/cpu/element.hpp"
#include "gpu/cpu/reference_ops.hpp"

namespace troupe::gpu::cpu::reference {
namespace {

/// A token's keys and values in one head: `row` counts those in the block.
struct kv_place {
  std::byte* block;
  int64_t row;
};

kv_place place_of(const kv_cache_view& cache, int64_t block, int64_t head, int64_t offset) {
  return {block_at(cache, block), head * cache.block_size + offset};
}

/// Element `d` of the key or value whose bytes and scales lie at these offsets.
double cached(const kv_cache_view& cache, const kv_place& of, int64_t data, int64_t scales,
              int64_t d) {
  const auto at = of.row * cache.head_dim + d;
  if (cache.type != dtype::i8)
    return load_element(of.block + data, cache.type, at);
  return double{reinterpret_cast<const float*>(of.block + scales)[of.row]} *
         reinterpret_cast<const int8_t*>(of.block + data)[at];
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
    const auto& cache = args_.cache;
    const auto dim = cache.head_dim;
    std::vector<double> weights;
    for (auto t = first; t <= last; ++t) {
      double score = 0;
      for (int64_t d = 0; d < dim; ++d)
        score += double{q[d]} * cached(cache, at(t), cache.k, cache.k_scales, d);
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
               cached(cache, at(t), cache.v, cache.v_scales, d);
      out[d] = static_cast<float>(weights.empty() ? 0 : sum / total);
    }
  }

private:
  kv_place at(int64_t t) const {
    const auto& cache = args_.cache;
    return place_of(cache, table_[t / cache.block_size], kv_head_, t % cache.block_size);
  }

  const attention_args& args_;
  const int32_t* table_;
  int64_t kv_head_;
};

} // namespace

void kv_write(const kv_write_args& args) {
  const auto& cache = args.cache;
  const auto dim = cache.head_dim;
  const auto store = [&](const float* from, const kv_place& to, int64_t data, int64_t scales) {
    auto* first = to.block + data;
    if (cache.type == dtype::i8)
      reinterpret_cast<float*>(to.block + scales)[to.row] =
          to_bytes(from, dim, reinterpret_cast<int8_t*>(first) + to.row * dim);
    else
      for (int64_t d = 0; d < dim; ++d)
        store_element(first, cache.type, to.row * dim + d, from[d]);
  };
  for (int64_t i = 0; i < args.rows; ++i) {
    const auto block = args.slots[i] / cache.block_size;
    const auto offset = args.slots[i] % cache.block_size;
    for (int64_t h = 0; h < cache.kv_heads; ++h) {
      const auto to = place_of(cache, block, h, offset);
      store(args.k + i * args.k_stride + h * dim, to, cache.k, cache.k_scales);
      store(args.v + i * args.v_stride + h * dim, to, cache.v, cache.v_scales);
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
