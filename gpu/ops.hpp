#pragma once
#include <cstddef>
#include <cstdint>

#include "base/dtype.hpp"

/// Argument structs of the operations that every backend implements. Pointers are device pointers
/// (host pointers for the CPU) and are borrowed for the call. Activations are f32 unless an op says
/// otherwise; weights keep the checkpoint's dtype (f32, f16 or bf16). "row" is one token of the
/// ragged batch; strides count elements.
///
/// Every op is batch invariant: a row's result depends only on that row's inputs, bit for bit,
/// never on how many other rows are in the call or how a prompt was cut into chunks. This is what
/// lets a sequence be resumed elsewhere without changing its text. The one exception is asked for:
/// `linear` on a CUDA device with `products::fastest`, where a row may depend on how many rows are
/// in the call, from `cuda::wide_limits` rows on, and on nothing else.
namespace troupe::gpu {

/// How a weight lies in memory; its size is the same in all layouts.
enum class weight_layout : uint8_t {
  rows,   ///< row after row, as a file has them
  panels, ///< for a backend's kernels; see gpu/cpu/panels.hpp
};

/// A weight of the checkpoint: row-major [rows, cols], contiguous. `linear` and `embedding` also
/// take blocks (which, the device says: `takes`), whose cols are whole blocks; those and bf16 may
/// have a layout of their device there. Elsewhere weights are rows of floats.
struct weight {
  const void* data = nullptr;
  dtype type = dtype::f32;
  int64_t rows = 0;
  int64_t cols = 0;
  weight_layout layout = weight_layout::rows;
  explicit operator bool() const { return data != nullptr; }
};

/// out[i, :] = table[ids[i], :] * scale. Ids are valid rows (the caller checked).
struct embedding_args {
  weight table;
  const int32_t* ids = nullptr; // [rows]
  float* out = nullptr;         // [rows, table.cols]
  int64_t rows = 0;
  float scale = 1.0f;
};

/// out = x / rms(x) * (gain + gain_offset), per group of `cols` elements.
/// A row holds `groups` groups one after another, `row_stride` elements apart from the next row
/// (groups = heads for q/k norm). out may equal x.
struct rms_norm_args {
  const float* x = nullptr;
  float* out = nullptr;
  weight gain; // [1, cols]
  int64_t rows = 0;
  int64_t groups = 1;
  int64_t cols = 0;
  int64_t x_stride = 0;
  int64_t out_stride = 0;
  float eps = 1e-6f;
  float gain_offset = 0.0f;
};

/// out[i, :] (+)= x[i, :] * w^T + bias. w is [n, k]; accumulate adds to what `out` holds
/// (residual).
struct linear_args {
  const float* x = nullptr; // [rows, w.cols]
  weight w;                 // [n, k]
  weight bias;              // [1, n] or empty
  float* out = nullptr;     // [rows, n]
  int64_t rows = 0;
  int64_t x_stride = 0;
  int64_t out_stride = 0;
  bool accumulate = false;
};

/// out = w as `to` (blocks or bf16) in some layout, `bytes_of(to, w.rows * w.cols)` bytes; w's cols
/// are a multiple of 32. w is rows of type `to` already and only laid out, or, where `to` is q8_0
/// or q4_0, rows of any type. Each block's scale fits its largest magnitude.
struct quantize_args {
  weight w;
  void* out = nullptr;
  dtype to = dtype::q8_0;
  weight_layout layout = weight_layout::rows;
};

/// Rotates q or k heads in place: the first `rotary_dim` elements of each head, halves layout
/// (element i pairs with i + rotary_dim / 2, as Hugging Face models have it).
/// cos/sin: [rows, rotary_dim / 2], scaling already applied.
struct rope_args {
  float* x = nullptr; // [rows, heads, head_dim], rows `stride` apart
  const float* cos = nullptr;
  const float* sin = nullptr;
  int64_t rows = 0;
  int64_t heads = 0;
  int64_t head_dim = 0;
  int64_t rotary_dim = 0;
  int64_t stride = 0;
};

/// Blocks of a KV arena begin at multiples of so many bytes: numbers of 32 bits reach 512 GiB.
constexpr int64_t kv_granule = 256;

/// One layer's paged KV memory. A block holds the keys and values of `block_size` tokens in all
/// layers of a model and lies anywhere in an arena, which blocks of other sizes may share; its
/// number is where it begins, in units of `kv_granule` bytes. Offsets, in bytes from there, say
/// where this layer's parts are: keys and values each [kv_heads, block_size, head_dim] of `type`
/// (f32, bf16 or i8), at multiples of 64 where the engine chose them. With i8 a token's key or
/// value in one head has a scale of its own: its largest magnitude over 127, and element =
/// scale * byte.
/// Within a block and head, devices order the bytes as they like: whole blocks may be copied, what
/// is in them only the device that wrote them can read.
struct kv_cache_view {
  std::byte* arena = nullptr;
  uint64_t arena_bytes = 0;
  dtype type = dtype::bf16;
  int64_t kv_heads = 0;
  int64_t block_size = 0;
  int64_t head_dim = 0;
  int64_t k = 0; ///< offsets
  int64_t v = 0;
  int64_t k_scales = 0; ///< i8 only: floats, [kv_heads, block_size]
  int64_t v_scales = 0;
};

constexpr std::byte* block_at(const kv_cache_view& cache, int64_t number) {
  return cache.arena + number * kv_granule;
}

/// Stores new keys and values: row i goes to slot slots[i] = block * block_size + offset, block
/// being the block's number. The slots of a block are written in rising order; whoever writes one
/// anew writes those after it again before they are seen. In i8, a head that holds anything but
/// finite numbers gets a scale of NaN, so that attention shows it.
struct kv_write_args {
  const float* k = nullptr; // [rows, kv_heads * head_dim], rows k_stride apart
  const float* v = nullptr;
  kv_cache_view cache;
  const int64_t* slots = nullptr; // [rows]
  int64_t rows = 0;
  int64_t k_stride = 0;
  int64_t v_stride = 0;
};

/// Causal attention over paged KV for any mix of prefill and decode rows.
/// Sequence s owns rows row_start[s] .. row_start[s + 1]; its last row attends to positions
/// 0 .. context[s] - 1, the row before it to one fewer, and so on.
/// window > 0: a row at position p sees only positions > p - window.
struct attention_args {
  const float* q = nullptr; // [rows, heads * head_dim], rows q_stride apart
  kv_cache_view cache;
  const int32_t* row_start = nullptr;   // [sequences + 1]
  const int32_t* context = nullptr;     // [sequences], tokens in the cache, new ones included
  const int32_t* block_table = nullptr; // [sequences, table_stride], numbers of blocks
  int64_t table_stride = 0;
  int64_t sequences = 0;
  int64_t heads = 0;
  int64_t window = 0;
  float scale = 1.0f;
  float* out = nullptr; // [rows, heads * head_dim], rows out_stride apart
  int64_t q_stride = 0;
  int64_t out_stride = 0;
  int64_t rows = 0; ///< of all sequences: row_start[sequences], where the host can read it
};

enum class activation : uint8_t { silu, gelu, gelu_tanh, relu };

/// out[i, :] = act(gate[i, :]) * up[i, :]. out may equal gate.
struct gated_activation_args {
  const float* gate = nullptr;
  const float* up = nullptr;
  float* out = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t gate_stride = 0;
  int64_t up_stride = 0;
  int64_t out_stride = 0;
  activation act = activation::silu;
};

/// out[i, :] = x[index[i], :].
struct gather_rows_args {
  const float* x = nullptr;
  const int32_t* index = nullptr;
  float* out = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t x_stride = 0;
};

} // namespace troupe::gpu
