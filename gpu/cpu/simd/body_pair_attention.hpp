#pragma once
#include "gpu/cpu/simd/body_exponential.hpp"
#include "gpu/cpu/simd/body_queries.hpp"

/// Paged attention over a bf16 cache that is laid out in pairs (see gpu/cpu/kernels.hpp), over
/// vec_avx512.hpp and AVX-512 BF16: keys, queries, values and weights multiply as pairs of bf16,
/// sums and the softmax are in float.
///
/// A lane of a score is a position, a lane of an output an element of the head, so that nothing is
/// added up across lanes. Positions are walked in chunks at multiples of `attention_keys`; what a
/// query adds up, and in which order, depends on its own range alone.
namespace troupe::gpu::cpu {
namespace {

class pair_attention_tile {
public:
  explicit pair_attention_tile(const attention_job& job)
      : job_{job}, dim_{job.head_dim}, sums_{job.scratch}, scores_{sums_ +
                                                                   attention_queries * dim_},
        q_{reinterpret_cast<unsigned char*>(scores_ + attention_queries * attention_keys)} {}

  void run() {
    begin_all();
    const span all = seen_by_any(job_);
    int64_t at = all.begin / attention_keys * attention_keys;
    if (at < all.end)
      next_ = located(at, all);
    for (; at < all.end; at += attention_keys) {
      here_ = next_;
      if (at + attention_keys < all.end)
        next_ = located(at + attention_keys, all);
      run_chunk(at, in_chunk(all, at));
    }
    end_queries(job_, sums_, dim_, top_, total_);
  }

private:
  /// 6 x 4 sums, 4 vectors of the cache and an operand that comes from memory.
  static constexpr int tile_queries = 6;
  static constexpr int tile_vectors = 4;
  static constexpr int groups = attention_keys / pair_group;
  static constexpr int group_pairs = pair_group / 2;

  /// Where each group of positions of a chunk has its keys and values.
  struct places {
    const unsigned char* keys[groups];
    const unsigned char* values[groups];
  };

  void begin_all() {
    const vec scale = splat(job_.scale);
    for (int i = 0; i < job_.count; ++i) {
      top_[i] = -__builtin_inff();
      total_[i] = 0;
      for (int64_t d = 0; d < dim_; d += lanes) {
        store_bf16(q_ + (i * dim_ + d) * 2, mul(load_f32(job_.q[i] + d), scale));
        store_f32(sums_ + i * dim_ + d, zero());
      }
    }
  }

  /// `seen`: by any query.
  void run_chunk(int64_t at, span seen) {
    const int tiles = (job_.count + tile_queries - 1) / tile_queries;
    const int step = (job_.count + tiles - 1) / tiles;
    for (int i = 0; i < job_.count; i += step) {
      const int count = job_.count - i < step ? job_.count - i : step;
      if (i == 0)
        score_tile<tile_queries, true>(i, count);
      else
        score_tile<tile_queries, false>(i, count);
    }
    for (int i = 0; i < job_.count; ++i)
      soften(i, in_chunk(seen_by(job_, i), at));
    for (int i = 0; i < job_.count; i += step)
      value_tile_of<tile_queries>(i, job_.count - i < step ? job_.count - i : step, seen);
  }

  /// Groups that nobody sees repeat one that somebody does; their scores are thrown away.
  places located(int64_t at, span all) const {
    const span seen = in_chunk(all, at);
    const int64_t low = seen.begin / pair_group, high = (seen.end - 1) / pair_group;
    places out;
    for (int g = 0; g < groups; ++g) {
      const int64_t position = at + (g < low ? low : g > high ? high : g) * pair_group;
      const int64_t row = job_.kv_head * job_.block_size + position % job_.block_size;
      const int64_t from = job_.blocks[position / job_.block_size] * job_.granule + row * dim_ * 2;
      out.keys[g] = job_.k + from;
      out.values[g] = job_.v + from;
    }
    return out;
  }

  /// Calls the tile for `count` queries, 1 .. Queries.
  template <int Queries, bool Ahead>
  void score_tile(int first, int count) {
    if (count >= Queries)
      score<Queries, Ahead>(first);
    else if constexpr (Queries > 1)
      score_tile<Queries - 1, Ahead>(first, count);
  }

  /// `Ahead`: the next chunk is asked for meanwhile. The cache is in small pieces all over the
  /// memory, which the processor does not foresee.
  template <int Queries, bool Ahead>
  void score(int first) {
    vec sums[Queries][groups];
#pragma GCC unroll 8
    for (int i = 0; i < Queries; ++i)
#pragma GCC unroll 8
      for (int g = 0; g < groups; ++g)
        sums[i][g] = zero();
    const unsigned char* q = q_ + first * dim_ * 2;
    for (int64_t pair = 0; pair < dim_ / 2; ++pair) {
      __m512bh keys[groups];
#pragma GCC unroll 8
      for (int g = 0; Ahead && g < groups; ++g) {
        __builtin_prefetch(next_.keys[g] + pair * pair_line, 0, 2);
        __builtin_prefetch(next_.values[g] + pair * pair_line, 0, 2);
      }
#pragma GCC unroll 8
      for (int g = 0; g < groups; ++g)
        keys[g] = reinterpret_cast<__m512bh>(load_groups(here_.keys[g] + pair * pair_line));
#pragma GCC unroll 8
      for (int i = 0; i < Queries; ++i) {
        const auto two = reinterpret_cast<__m512bh>(splat_int(q + i * dim_ * 2 + pair * 4));
#pragma GCC unroll 8
        for (int g = 0; g < groups; ++g)
          sums[i][g] = _mm512_dpbf16_ps(sums[i][g], keys[g], two);
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < Queries; ++i)
#pragma GCC unroll 8
      for (int g = 0; g < groups; ++g)
        store_f32(scores_ + (first + i) * attention_keys + g * lanes, sums[i][g]);
  }

  /// Turns a query's scores of this chunk into weights, in bf16 at the same place, and notes by how
  /// much what it has gathered so far shrinks.
  void soften(int query, span mine) {
    float* scores = scores_ + query * attention_keys;
    shrink_[query] = 1;
    if (mine.empty()) {
      store_f32(scores, zero());
      store_f32(scores + lanes, zero());
      return;
    }
    const uint64_t seen =
        (~uint64_t{0} << mine.begin) & (~uint64_t{0} >> (attention_keys - mine.end));
    vec some[groups];
    vec tops = splat(top_[query]);
#pragma GCC unroll 8
    for (int g = 0; g < groups; ++g) {
      some[g] = _mm512_mask_blend_ps(static_cast<__mmask16>(seen >> (g * lanes)),
                                     splat(-__builtin_inff()), load_f32(scores + g * lanes));
      tops = max(tops, some[g]);
    }
    const float top = max_lane(tops);
    vec sum = zero();
#pragma GCC unroll 8
    for (int g = 0; g < groups; ++g) {
      some[g] = exponential(sub(some[g], splat(top)));
      sum = add(sum, some[g]);
    }
    for (int g = 0; g < groups; g += 2)
      store_pairs(scores + g * lanes / 2, some[g], some[g + 1]);
    if (top != top_[query]) {
      float shrink[lanes];
      store_f32(shrink, exponential(sub(splat(top_[query]), splat(top))));
      shrink_[query] = shrink[0];
      top_[query] = top;
    }
    float parts[4];
    sum_lanes(sum, zero(), zero(), zero(), parts);
    total_[query] = total_[query] * shrink_[query] + parts[0];
  }

  /// 32 weights as bf16, one after another.
  static void store_pairs(float* out, vec first, vec second) {
    _mm512_storeu_si512(out, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(second, first)));
  }

  template <int Queries>
  void value_tile_of(int first, int count, span seen) {
    if (count >= Queries)
      return add_values<Queries>(first, seen);
    if constexpr (Queries > 1)
      value_tile_of<Queries - 1>(first, count, seen);
  }

  template <int Queries>
  void add_values(int first, span seen) {
    int64_t d = 0;
    for (; d + tile_vectors * lanes <= dim_; d += tile_vectors * lanes)
      add_columns<Queries, tile_vectors>(first, d, seen);
    for (; d < dim_; d += lanes)
      add_columns<Queries, 1>(first, d, seen);
  }

  /// Adds weight * value over the pairs that hold a position of `seen`. Of a pair that is
  /// seen in part the other weight is 0, and its value a number: kv_write sees to that.
  template <int Queries, int Vectors>
  void add_columns(int first, int64_t d, span seen) {
    vec sums[Queries][Vectors];
#pragma GCC unroll 8
    for (int i = 0; i < Queries; ++i)
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v)
        sums[i][v] =
            mul(load_f32(sums_ + (first + i) * dim_ + d + v * lanes), splat(shrink_[first + i]));
    for (int64_t pair = seen.begin / 2; pair < (seen.end + 1) / 2; ++pair) {
      const unsigned char* at =
          here_.values[pair / group_pairs] + (pair % group_pairs * dim_ + d) * 4;
      __m512bh values[Vectors];
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v)
        values[v] = reinterpret_cast<__m512bh>(load_groups(at + v * pair_line));
#pragma GCC unroll 8
      for (int i = 0; i < Queries; ++i) {
        const auto two =
            reinterpret_cast<__m512bh>(splat_int(scores_ + (first + i) * attention_keys + pair));
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v)
          sums[i][v] = _mm512_dpbf16_ps(sums[i][v], values[v], two);
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < Queries; ++i)
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v)
        store_f32(sums_ + (first + i) * dim_ + d + v * lanes, sums[i][v]);
  }

  const attention_job& job_;
  int64_t dim_;
  float* sums_;
  float* scores_;
  unsigned char* q_;
  float top_[attention_queries];
  float total_[attention_queries];
  float shrink_[attention_queries];
  places here_;
  places next_;
};

void pair_attention(const attention_job& job) { pair_attention_tile{job}.run(); }

/// Position `slot` of a group gets its key: two elements of it to each line.
void write_key_pairs(const float* from, unsigned char* group, int64_t slot, int64_t n) {
  unsigned char pairs[lanes * 2];
  for (int64_t d = 0; d < n; d += lanes) {
    store_bf16(pairs, load_f32(from + d));
    for (int64_t i = 0; i < lanes; i += 2)
      __builtin_memcpy(group + (d + i) / 2 * pair_line + slot * 4, pairs + i * 2, 4);
  }
}

/// The first position of a pair clears the second one, which may hold anything, NaN included, and
/// is multiplied by zero until it is written.
void write_value_pairs(const float* from, unsigned char* group, int64_t slot, int64_t n) {
  unsigned char* out = group + slot / 2 * n * 4;
  const __m512i first = _mm512_set1_epi32(0xffff);
  for (int64_t d = 0; d < n; d += lanes) {
    const __m512i value = _mm512_cvtepu16_epi32(narrow_bf16(load_f32(from + d)));
    const __m512i both = slot % 2 == 0
                             ? value
                             : _mm512_or_si512(_mm512_and_si512(load_groups(out + d * 4), first),
                                               _mm512_slli_epi32(value, 16));
    _mm512_storeu_si512(out + d * 4, both);
  }
}

} // namespace
} // namespace troupe::gpu::cpu
