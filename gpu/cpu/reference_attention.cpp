#include <algorithm>
#include <cmath>
#include <vector>

#include "gpu/cpu/element.hpp"
#include "gpu/cpu/reference_ops.hpp"

namespace troupe::gpu::cpu::reference {
namespace {

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
        score += double{q[d]} * load_element(args_.cache.k, args_.cache.type, at(t) + d);
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
               load_element(args_.cache.v, args_.cache.type, at(t) + d);
      out[d] = static_cast<float>(weights.empty() ? 0 : sum / total);
    }
  }

private:
  /// Index in the cache of the first element of position `t`.
  int64_t at(int64_t t) const {
    const auto& cache = args_.cache;
    const int64_t block = table_[t / cache.block_size];
    return ((block * cache.kv_heads + kv_head_) * cache.block_size + t % cache.block_size) *
           cache.head_dim;
  }

  const attention_args& args_;
  const int32_t* table_;
  int64_t kv_head_;
};

} // namespace

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
