#pragma once
#include "gpu/kernels/kv_place.cuh"
#include "gpu/kernels/linear_operands.cuh"

/// How the tensor-core kernel of `attention` reads a cache: as bf16, eight neighbours of a key or
/// four of a value at a time.
namespace troupe::gpu::kernels {

struct bf16_cache {
  using element = uint16_t;
  static constexpr bool is_scaled = false;
  __device__ static uint4 eight(const uint16_t* from) {
    return *reinterpret_cast<const uint4*>(from);
  }
  __device__ static uint2 four(const uint16_t* from) {
    return *reinterpret_cast<const uint2*>(from);
  }
};

/// Bytes are whole numbers that bf16 holds exactly; the scales of keys go to the scores, those of
/// values to the softmax weights. The engine's blocks begin bytes at a multiple of 64.
struct i8_cache {
  using element = int8_t;
  static constexpr bool is_scaled = true;
  __device__ static float number(uint32_t bytes, int i) {
    return static_cast<float>(static_cast<int8_t>(bytes >> i * 8));
  }
  __device__ static uint2 numbers(uint32_t bytes) {
    return {pack_bf16(number(bytes, 0), number(bytes, 1)),
            pack_bf16(number(bytes, 2), number(bytes, 3))};
  }
  __device__ static uint4 eight(const int8_t* from) {
    const uint2 bytes = *reinterpret_cast<const uint2*>(from);
    const uint2 low = numbers(bytes.x), high = numbers(bytes.y);
    return {low.x, low.y, high.x, high.y};
  }
  __device__ static uint2 four(const int8_t* from) {
    return numbers(*reinterpret_cast<const uint32_t*>(from));
  }
};

/// Reads keys and values of one head; positions outside the tile's range read as zero, for what
/// lies there may be anything.
template <int dim, class cache_type>
struct kv_reader {
  using element = typename cache_type::element;
  const attention_args& args;
  const int32_t* table;
  int64_t kv_head, first, last;

  __device__ kv_place place(int64_t position) const {
    const auto size = static_cast<uint32_t>(args.cache.block_size);
    const auto p = static_cast<uint32_t>(position);
    return place_of(args.cache, table[p / size], kv_head, p % size);
  }
  __device__ const element* key(const kv_place& at) const {
    return part_of<const element>(at, args.cache.k) + at.row * dim;
  }
  __device__ const element* value(const kv_place& at) const {
    return part_of<const element>(at, args.cache.v) + at.row * dim;
  }
  __device__ float key_scale(const kv_place& at) const {
    return part_of<const float>(at, args.cache.k_scales)[at.row];
  }
  __device__ float value_scale(const kv_place& at) const {
    return part_of<const float>(at, args.cache.v_scales)[at.row];
  }
  __device__ bool holds(int64_t position) const { return position >= first && position <= last; }
};

} // namespace troupe::gpu::kernels
