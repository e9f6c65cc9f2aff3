#pragma once
#include "gpu/cpu/simd/body_kv.hpp"
#include "gpu/cpu/simd/body_queries.hpp"

/// Paged attention over the primitives of the simd/vec_*.hpp that was included before.
///
/// A tile of queries walks the positions in chunks that lie at multiples of `attention_keys`. What
/// a query adds up, and in which order, depends on its own range alone; the tile only shares loads.
namespace troupe::gpu::cpu {
namespace {

/// `Cache` (of body_kv.hpp) says how keys and values are kept.
template <class Cache>
class attention_tile {
public:
  explicit attention_tile(const attention_job& job)
      : job_{job}, dim_{job.head_dim}, padded_{(dim_ + lanes - 1) / lanes * lanes}, q_{job.scratch},
        sums_{q_ + attention_queries * padded_}, scores_{sums_ + attention_queries * padded_} {}

  void run() {
    begin_all();
    const span all = seen_by_any(job_);
    for (int64_t at = all.begin / attention_keys * attention_keys; at < all.end;
         at += attention_keys)
      run_chunk(at, in_chunk(all, at));
    end_queries(job_, sums_, padded_, top_, total_);
  }

private:
  void begin_all() {
    const vec scale = splat(job_.scale);
    for (int i = 0; i < job_.count; ++i) {
      top_[i] = -__builtin_inff();
      total_[i] = 0;
      float* q = q_ + i * padded_;
      for (int64_t d = 0; d < padded_; d += lanes) {
        store_f32(q + d, mul(load_f32_part(job_.q[i] + d, smaller(dim_ - d, lanes)), scale));
        store_f32(sums_ + i * padded_ + d, zero());
      }
    }
  }

  span visible(int query, int64_t at) const { return in_chunk(seen_by(job_, query), at); }

  void run_chunk(int64_t at, span all) {
    locate(at, all);
    for (int i = 0; i < job_.count; i += query_tile) {
      if (job_.count - i >= query_tile)
        score<query_tile>(i, all);
      else
        for (int j = i; j < job_.count; ++j)
          score<1>(j, all);
    }
    for (int i = 0; i < job_.count; ++i)
      if (const span mine = visible(i, at); !mine.empty())
        soften(i, mine);
    for (int i = 0; i < job_.count; i += query_tile)
      add_values(at, i, static_cast<int>(smaller(job_.count - i, query_tile)));
  }

  /// Where each visible position's key and value are. The neighbours that complete a group of four
  /// repeat a visible one; their scores are thrown away.
  void locate(int64_t at, span all) {
    const int64_t bytes = dim_ * Cache::bytes;
    for (int64_t t = all.begin; t < all.end; ++t) {
      const int64_t slot = (at + t) % job_.block_size;
      const int64_t block = job_.blocks[(at + t) / job_.block_size] * job_.granule;
      const int64_t row = job_.kv_head * job_.block_size + slot;
      keys_[t] = job_.k + block + row * bytes;
      values_[t] = job_.v + block + row * bytes;
      if constexpr (Cache::has_scales) {
        key_scales_[t] = reinterpret_cast<const float*>(job_.k_scales + block)[row];
        value_scales_[t] = reinterpret_cast<const float*>(job_.v_scales + block)[row];
      }
    }
    for (int64_t t = all.begin / 4 * 4; t < all.begin; ++t)
      keys_[t] = keys_[all.begin];
    for (int64_t t = all.end; t < (all.end + 3) / 4 * 4; ++t)
      keys_[t] = keys_[all.end - 1];
  }

  template <int Queries>
  void score(int first, span all) {
    for (int64_t t = all.begin / 4 * 4; t < all.end; t += 4) {
      vec sums[Queries][4];
#pragma GCC unroll 8
      for (int i = 0; i < Queries; ++i)
#pragma GCC unroll 8
        for (int j = 0; j < 4; ++j)
          sums[i][j] = zero();
      int64_t d = 0;
      for (; d + lanes <= dim_; d += lanes) {
#pragma GCC unroll 8
        for (int j = 0; j < 4; ++j) {
          const vec key = Cache::load(keys_[t + j] + d * Cache::bytes);
#pragma GCC unroll 8
          for (int i = 0; i < Queries; ++i)
            sums[i][j] = fma(load_f32(q_ + (first + i) * padded_ + d), key, sums[i][j]);
        }
      }
      if (d < dim_) {
#pragma GCC unroll 8
        for (int j = 0; j < 4; ++j) {
          const vec key = Cache::load_part(keys_[t + j] + d * Cache::bytes, dim_ - d);
#pragma GCC unroll 8
          for (int i = 0; i < Queries; ++i)
            sums[i][j] = fma(load_f32(q_ + (first + i) * padded_ + d), key, sums[i][j]);
        }
      }
#pragma GCC unroll 8
      for (int i = 0; i < Queries; ++i)
        sum_lanes(sums[i][0], sums[i][1], sums[i][2], sums[i][3],
                  scores_ + (first + i) * attention_keys + t);
    }
  }

  /// Turns a query's scores of this chunk into weights and rescales what it has gathered so far.
  void soften(int query, span mine) {
    float* scores = scores_ + query * attention_keys;
    if constexpr (Cache::has_scales)
      multiply(scores, key_scales_);
    for (int64_t t = 0; t < mine.begin; ++t)
      scores[t] = -__builtin_inff();
    for (int64_t t = mine.end; t < attention_keys; ++t)
      scores[t] = -__builtin_inff();
    vec tops = splat(top_[query]);
    for (int t = 0; t < attention_keys; t += lanes)
      tops = max(tops, load_f32(scores + t));
    const float top = max_lane(tops);
    vec sums = zero();
    for (int t = 0; t < attention_keys; t += lanes) {
      const vec weight = exponential(sub(load_f32(scores + t), splat(top)));
      store_f32(scores + t, weight);
      sums = add(sums, weight);
    }
    if constexpr (Cache::has_scales)
      multiply(scores, value_scales_); // of the visible ones: nobody reads the others
    float parts[4];
    sum_lanes(sums, zero(), zero(), zero(), parts);
    float rescale[lanes];
    store_f32(rescale, exponential(sub(splat(top_[query]), splat(top))));
    total_[query] = total_[query] * rescale[0] + parts[0];
    top_[query] = top;
    float* gathered = sums_ + query * padded_;
    for (int64_t d = 0; d < padded_; d += lanes)
      store_f32(gathered + d, mul(load_f32(gathered + d), splat(rescale[0])));
  }

  static void multiply(float* scores, const float* scales) {
    for (int t = 0; t < attention_keys; t += lanes)
      store_f32(scores + t, mul(load_f32(scores + t), load_f32(scales + t)));
  }

  /// Adds weight * value for queries first .. first + count - 1. Positions that all of them see
  /// go through the shared loop, those before and after one by one, always in rising order.
  void add_values(int64_t at, int first, int count) {
    span common = visible(first, at);
    for (int i = 1; i < count; ++i) {
      const span mine = visible(first + i, at);
      common = {larger(common.begin, mine.begin), smaller(common.end, mine.end)};
    }
    const bool shared = count == query_tile && !common.empty();
    for (int i = first; i < first + count; ++i) {
      const span mine = visible(i, at);
      add_values<1>(i, shared ? span{mine.begin, common.begin} : mine);
    }
    if (!shared)
      return;
    add_values<query_tile>(first, common);
    for (int i = first; i < first + count; ++i)
      add_values<1>(i, {common.end, visible(i, at).end});
  }

  template <int Queries>
  void add_values(int first, span range) {
    if (range.empty())
      return;
    int64_t d = 0;
    for (; d + value_tile * lanes <= dim_; d += value_tile * lanes)
      add_columns<Queries, value_tile, false>(first, range, d);
    for (; d + lanes <= dim_; d += lanes)
      add_columns<Queries, 1, false>(first, range, d);
    if (d < dim_)
      add_columns<Queries, 1, true>(first, range, d);
  }

  template <int Queries, int Vectors, bool Part>
  void add_columns(int first, span range, int64_t d) {
    vec sums[Queries][Vectors];
#pragma GCC unroll 8
    for (int i = 0; i < Queries; ++i)
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v)
        sums[i][v] = load_f32(sums_ + (first + i) * padded_ + d + v * lanes);
    for (int64_t t = range.begin; t < range.end; ++t) {
      const unsigned char* at = values_[t] + d * Cache::bytes;
      vec value[Vectors];
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v)
        value[v] =
            Part ? Cache::load_part(at, dim_ - d) : Cache::load(at + v * lanes * Cache::bytes);
#pragma GCC unroll 8
      for (int i = 0; i < Queries; ++i) {
        const vec weight = splat(scores_[(first + i) * attention_keys + t]);
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v)
          sums[i][v] = fma(weight, value[v], sums[i][v]);
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < Queries; ++i)
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v)
        store_f32(sums_ + (first + i) * padded_ + d + v * lanes, sums[i][v]);
  }

  const attention_job& job_;
  int64_t dim_;
  int64_t padded_;
  float* q_;
  float* sums_;
  float* scores_;
  float top_[attention_queries];
  float total_[attention_queries];
  const unsigned char* keys_[attention_keys];
  const unsigned char* values_[attention_keys];
  // Of positions that nobody sees they keep what they held: never read.
  float key_scales_[Cache::has_scales ? attention_keys : 1] = {};
  float value_scales_[Cache::has_scales ? attention_keys : 1] = {};
};

template <class Cache>
void attention(const attention_job& job) {
  attention_tile<Cache>{job}.run();
}

} // namespace
} // namespace troupe::gpu::cpu
