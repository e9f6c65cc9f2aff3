#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "gpu/cpu/cpu_device.hpp"

/// The CPU backend's keys and values: storing them, and attention over them.
namespace troupe::gpu::cpu {

void cpu_device::kv_write(const kv_write_args& args) {
  const auto& cache = args.cache;
  if (is_in_pairs(cache))
    return write_pairs(args);
  const auto dim = cache.head_dim;
  const auto bytes = dim * static_cast<int64_t>(size_of(cache.type));
  const auto store = [&](const float* from, std::byte* block, int64_t row, int64_t data,
                         int64_t scales) {
    auto* to = reinterpret_cast<unsigned char*>(block + data + row * bytes);
    if (cache.type == dtype::i8)
      reinterpret_cast<float*>(block + scales)[row] = isa_.kernels.to_i8(from, to, dim);
    else if (cache.type == dtype::bf16)
      isa_.kernels.to_bf16(from, to, dim);
    else
      std::memcpy(to, from, static_cast<size_t>(bytes));
  };
  for_rows(args.rows, 2 * cache.kv_heads * dim, [&](int64_t begin, int64_t end) {
    for (auto i = begin; i < end; ++i) {
      auto* block = block_at(cache, args.slots[i] / cache.block_size);
      const auto offset = args.slots[i] % cache.block_size;
      for (int64_t h = 0; h < cache.kv_heads; ++h) {
        const auto row = h * cache.block_size + offset;
        store(args.k + i * args.k_stride + h * dim, block, row, cache.k, cache.k_scales);
        store(args.v + i * args.v_stride + h * dim, block, row, cache.v, cache.v_scales);
      }
    }
  });
}

/// Whether this device keeps the cache in pairs (gpu/cpu/kernels.hpp). A matter of its shape alone,
/// so that all ops agree.
bool cpu_device::is_in_pairs(const kv_cache_view& cache) const {
  return isa_.kernels.attention_pairs != nullptr && cache.type == dtype::bf16 &&
         cache.block_size % pair_group == 0 && cache.head_dim % pair_group == 0;
}

/// Heads are the tasks: two positions of a pair share bytes, and the first one comes first.
void cpu_device::write_pairs(const kv_write_args& args) {
  const auto& cache = args.cache;
  const auto dim = cache.head_dim;
  const auto store = [&](int64_t i, int64_t h) {
    const auto slot = args.slots[i] % cache.block_size;
    const auto first = slot / pair_group * pair_group;
    auto* group =
        reinterpret_cast<unsigned char*>(block_at(cache, args.slots[i] / cache.block_size) +
                                         (h * cache.block_size + first) * dim * 2);
    isa_.kernels.write_key_pairs(args.k + i * args.k_stride + h * dim, group + cache.k,
                                 slot - first, dim);
    isa_.kernels.write_value_pairs(args.v + i * args.v_stride + h * dim, group + cache.v,
                                   slot - first, dim);
  };
  for_rows(cache.kv_heads, 2 * args.rows * dim, [&](int64_t begin, int64_t end) {
    for (auto h = begin; h < end; ++h)
      for (int64_t i = 0; i < args.rows; ++i)
        store(i, h);
  });
}

/// A tile's queries and what each of them sees.
struct cpu_device::tile_queries {
  int count;
  const float* q[attention_queries];
  float* out[attention_queries];
  int64_t begin[attention_queries];
  int64_t end[attention_queries];

  /// From the first position that any of them sees to the last.
  int64_t first() const { return *std::min_element(begin, begin + count); }
  int64_t last() const { return *std::max_element(end, end + count); }
  int64_t first_part() const { return first() / attention_part; }
  /// Those that are met by what they see; one at least.
  int64_t parts() const {
    return std::max<int64_t>((last() + attention_part - 1) / attention_part - first_part(), 1);
  }
  bool sees(int query, int64_t part) const {
    return std::max(begin[query], part * attention_part) <
           std::min(end[query], (part + 1) * attention_part);
  }
};

cpu_device::tile_queries cpu_device::queries_of(const attention_args& args,
                                                const attention_tile& tile) const {
  const auto& cache = args.cache;
  const auto group = args.heads / cache.kv_heads;
  const int64_t row_end = args.row_start[tile.sequence + 1];
  const int64_t row_begin = args.row_start[tile.sequence];
  tile_queries out;
  out.count = static_cast<int>(
      std::min((row_end - row_begin) * group - tile.first_query, int64_t{attention_queries}));
  for (int i = 0; i < out.count; ++i) {
    const auto row = row_begin + (tile.first_query + i) / group;
    const auto head = tile.kv_head * group + (tile.first_query + i) % group;
    out.q[i] = args.q + row * args.q_stride + head * cache.head_dim;
    out.out[i] = args.out + row * args.out_stride + head * cache.head_dim;
    out.end[i] = args.context[tile.sequence] - (row_end - row) + 1;
    out.begin[i] = args.window > 0 ? std::max(out.end[i] - args.window, int64_t{0}) : 0;
  }
  return out;
}

void cpu_device::plan_attention(const attention_args& args) {
  const auto group = args.heads / args.cache.kv_heads;
  attention_tiles_.clear();
  for (int64_t s = 0; s < args.sequences; ++s) {
    const int64_t queries = (args.row_start[s + 1] - args.row_start[s]) * group;
    for (int64_t h = 0; h < args.cache.kv_heads; ++h)
      for (int64_t q = 0; q < queries; q += attention_queries)
        attention_tiles_.push_back({s, h, q});
  }
}

void cpu_device::attention(const attention_args& args) {
  plan_attention(args);
  int64_t work = 0;
  for (int64_t s = 0; s < args.sequences; ++s)
    work += int64_t{args.row_start[s + 1] - args.row_start[s]} * args.context[s] * args.heads *
            args.cache.head_dim;
  const auto tiles = static_cast<int64_t>(attention_tiles_.size());
  if (work > 4 * serial_elements_max && tiles < 4 * int64_t{pool_.size()})
    return attend_in_parts(args);
  for_tasks(tiles, work, [&](int64_t task, unsigned thread) {
    const auto& tile = attention_tiles_[static_cast<size_t>(task)];
    const auto queries = queries_of(args, tile);
    const auto kernel_floats = attention_scratch_floats(args.cache.head_dim);
    const auto state_floats = part_floats(args, queries.count);
    auto* own = thread_scratch_[thread].get<float>(
        static_cast<size_t>(kernel_floats + 2 * state_floats) * sizeof(float));
    attend_tile(args, tile, queries, own, own + kernel_floats);
  });
}

/// Of the undivided outputs of `queries`, their tops and totals.
int64_t cpu_device::part_floats(const attention_args& args, int queries) {
  return (args.cache.head_dim + 2) * queries;
}

/// All of a tile by one thread. `state`: room for two parts.
void cpu_device::attend_tile(const attention_args& args, const attention_tile& tile,
                             const tile_queries& queries, float* scratch, float* state) const {
  if (queries.parts() == 1)
    return run_attention(args, tile, queries, scratch);
  auto* part = state + part_floats(args, queries.count);
  for (int64_t i = 0; i < queries.parts(); ++i) {
    attend_part(args, tile, queries, queries.first_part() + i, scratch, i == 0 ? state : part);
    if (i > 0)
      merge_part(args, queries, queries.first_part() + i, part, state);
  }
  divide(args, queries, state);
}

/// Where there are fewer tiles than keep the threads busy: parts of tiles side by side.
void cpu_device::attend_in_parts(const attention_args& args) {
  attention_parts_.clear();
  int64_t floats = 0;
  for (size_t t = 0; t < attention_tiles_.size(); ++t) {
    const auto queries = queries_of(args, attention_tiles_[t]);
    attention_tiles_[t].first_part_task = attention_parts_.size();
    for (int64_t i = 0; i < queries.parts(); ++i) {
      attention_parts_.push_back({t, queries.first_part() + i, floats});
      floats += part_floats(args, queries.count);
    }
  }
  // Contexts grow with every step; the room for them should not.
  auto* states =
      part_states_.get<float>(std::bit_ceil(static_cast<size_t>(floats)) * sizeof(float));
  const auto scratch_bytes =
      static_cast<size_t>(attention_scratch_floats(args.cache.head_dim)) * sizeof(float);
  pool_.run(static_cast<int64_t>(attention_parts_.size()), [&](int64_t task, unsigned thread) {
    const auto& part = attention_parts_[static_cast<size_t>(task)];
    const auto& tile = attention_tiles_[part.tile];
    const auto queries = queries_of(args, tile);
    auto* scratch = thread_scratch_[thread].get<float>(scratch_bytes);
    if (queries.parts() == 1)
      return run_attention(args, tile, queries, scratch);
    attend_part(args, tile, queries, part.number, scratch, states + part.state);
  });
  pool_.run(static_cast<int64_t>(attention_tiles_.size()), [&](int64_t number, unsigned) {
    const auto& tile = attention_tiles_[static_cast<size_t>(number)];
    const auto queries = queries_of(args, tile);
    const auto* part = &attention_parts_[tile.first_part_task];
    for (int64_t i = 1; i < queries.parts(); ++i)
      merge_part(args, queries, part[i].number, states + part[i].state, states + part->state);
    if (queries.parts() > 1)
      divide(args, queries, states + part->state);
  });
}

/// What the queries gather from one part: outputs, tops, totals.
void cpu_device::attend_part(const attention_args& args, const attention_tile& tile,
                             const tile_queries& queries, int64_t number, float* scratch,
                             float* state) const {
  auto part = queries;
  const auto dim = args.cache.head_dim;
  for (int i = 0; i < part.count; ++i) {
    part.out[i] = state + i * dim;
    part.begin[i] = std::max(part.begin[i], number * attention_part);
    part.end[i] = std::min(part.end[i], (number + 1) * attention_part);
  }
  run_attention(args, tile, part, scratch, state + part.count * dim);
}

/// Adds a part to those before it.
void cpu_device::merge_part(const attention_args& args, const tile_queries& queries, int64_t number,
                            const float* part, float* state) {
  const auto dim = args.cache.head_dim, count = int64_t{queries.count};
  for (int64_t i = 0; i < count; ++i) {
    if (!queries.sees(static_cast<int>(i), number))
      continue;
    float& top = state[count * dim + i];
    float& total = state[count * (dim + 1) + i];
    const float new_top = part[count * dim + i], new_total = part[count * (dim + 1) + i];
    const bool is_first = !queries.sees(static_cast<int>(i), number - 1);
    const float both = is_first ? new_top : std::max(top, new_top);
    const float old_share = is_first ? 0 : std::exp(top - both);
    const float new_share = is_first ? 1 : std::exp(new_top - both);
    for (int64_t d = 0; d < dim; ++d)
      state[i * dim + d] = state[i * dim + d] * old_share + part[i * dim + d] * new_share;
    total = total * old_share + new_total * new_share;
    top = both;
  }
}

void cpu_device::divide(const attention_args& args, const tile_queries& queries,
                        const float* state) {
  const auto dim = args.cache.head_dim, count = int64_t{queries.count};
  for (int64_t i = 0; i < count; ++i) {
    const bool sees_nothing = queries.begin[i] >= queries.end[i];
    const float total = sees_nothing ? 1 : state[count * (dim + 1) + i];
    for (int64_t d = 0; d < dim; ++d)
      queries.out[i][d] = state[i * dim + d] / total;
  }
}

/// `undivided`: room for tops and totals, or null.
void cpu_device::run_attention(const attention_args& args, const attention_tile& tile,
                               const tile_queries& queries, float* scratch,
                               float* undivided) const {
  const auto& cache = args.cache;
  const auto kind = cache.type == dtype::i8 ? 2 : cache.type == dtype::bf16 ? 1 : 0;
  const auto kernel =
      is_in_pairs(cache) ? isa_.kernels.attention_pairs : isa_.kernels.attention[kind];
  const auto* arena = reinterpret_cast<const unsigned char*>(cache.arena);
  kernel({
      arena + cache.k,
      arena + cache.v,
      arena + cache.k_scales,
      arena + cache.v_scales,
      args.block_table + tile.sequence * args.table_stride,
      kv_granule,
      tile.kv_head,
      cache.block_size,
      cache.head_dim,
      args.scale,
      queries.count,
      queries.q,
      queries.out,
      queries.begin,
      queries.end,
      undivided,
      undivided == nullptr ? nullptr : undivided + queries.count,
      scratch,
  });
}

} // namespace troupe::gpu::cpu
