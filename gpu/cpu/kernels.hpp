#pragma once
#include <stddef.h>
#include <stdint.h>

/// The inner loops of the CPU backend, as tables of plain functions, one table per instruction set.
///
/// This header is read by translation units that are compiled for wide instruction sets. It must
/// stay free of inline functions, templates and default member initialisers: the linker keeps one
/// copy of such code, and if that copy came from an AVX-512 unit, older machines would crash in it.
namespace troupe::gpu::cpu {

enum class element : uint8_t { f32, f16, bf16 };
constexpr int element_kinds = 3;

enum class gate : uint8_t { silu, gelu, gelu_tanh, relu };

/// out[i, j] (+)= sum over c of x[i, c] * w[j, c], plus bias[j]. Strides count elements.
struct linear_job {
  const void* x; ///< float; bf16 rows padded with zeros to a multiple of `dot_padding` for the dot
  int64_t x_stride;
  const unsigned char* w; ///< [n, k], any alignment
  int64_t k;
  const float* bias; ///< or null
  float* out;
  int64_t out_stride;
  bool accumulate;
  /// Room for `linear_scratch_bytes`, aligned to 64; one per thread.
  void* scratch;
};

/// Part of a job: rows and columns [begin, end).
struct tile_range {
  int64_t row_begin;
  int64_t row_end;
  int64_t col_begin;
  int64_t col_end;
};

/// A call of `linear` covers at most this many rows and columns where it has more than one row.
constexpr int64_t linear_rows_max = 48;
constexpr int64_t linear_cols_max = 64;
constexpr size_t linear_scratch_bytes = 64 * linear_rows_max * linear_cols_max;
constexpr int64_t dot_padding = 32;
/// Columns of blocks that are expanded to floats at a time: with a long k they still fit the L2
/// cache.
constexpr int64_t expanded_cols_max = 32;

/// One block of 32 activations as `panel_job` reads it: `scale` times each of `values`. A start is
/// minus the sum of the values times what the layout added to each weight: of all 32 values, or of
/// the first and the second sixteen where the weights' scales are for so many.
struct activation_block {
  float scale;
  float sum; ///< scale times the sum of the values
  int32_t start[2];
  int8_t values[32];
};

/// out[i, j] (+)= sum over c of x[i, c] * w[j, c], plus bias[j], for weights in panels (see
/// gpu/cpu/panels.hpp). With weights in blocks, products of one block are added up exactly, blocks
/// in rising order in float.
struct panel_job {
  const void* x; ///< [rows, blocks] of activation_block; bf16 for weights in bf16 or f8_b128
  int64_t x_row_bytes;
  const unsigned char* panels;
  int64_t panel_bytes;
  int64_t blocks;    ///< of 32 elements of k
  const float* bias; ///< or null
  float* out;
  int64_t out_stride;
  bool accumulate;
  /// Room for `linear_scratch_bytes`, aligned to 64; one per thread.
  void* scratch;
};
constexpr int64_t panel_cols = 16;
/// The types of blocks, in the order of `dtype`, and bf16.
enum class panel_kind : uint8_t { q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q5_k, q6_k, f8_b128, bf16 };
constexpr int byte_panel_kinds = 8;
constexpr int panel_kinds = byte_panel_kinds + 2;
using panel_function = void (*)(const panel_job& job, const tile_range& range);
/// Columns that a call covers at most.
constexpr int64_t panel_cols_max = 128;

/// Up to `attention_queries` queries (rows x heads) that read the same key/value head.
struct attention_job {
  const unsigned char* k; ///< [kv_heads, block_size, head_dim] of the block with number 0
  const unsigned char* v;
  const unsigned char* k_scales; ///< of an int8 cache: floats, [kv_heads, block_size]
  const unsigned char* v_scales;
  const int32_t* blocks; ///< the sequence's block table: numbers of blocks
  int64_t granule;       ///< bytes from one number's block to the next one's
  int64_t kv_head;
  int64_t block_size;
  int64_t head_dim;
  float scale;
  int count;
  const float* const* q;
  float* const* out;
  const int64_t* begin; ///< query i sees positions begin[i] .. end[i] - 1
  const int64_t* end;
  /// Not null: the outputs are left undivided, and each query's greatest score and its total are
  /// told, so that parts of a range can be merged.
  float* tops;
  float* totals;
  float* scratch; ///< attention_scratch_floats(head_dim) floats, aligned to 64; one per thread
};

constexpr int attention_queries = 24;
/// Keys per step of the online softmax; steps lie at multiples of it, so that a row's sums do not
/// depend on which rows share its tile.
constexpr int attention_keys = 64;
constexpr int64_t attention_scratch_floats(int64_t head_dim) {
  return attention_queries * (2 * ((head_dim + 15) / 16 * 16) + attention_keys);
}

/// Positions that are gathered on their own, at multiples of it, and then merged in rising order,
/// whether by one thread or by several: a row's sums depend on its range alone.
constexpr int64_t attention_part = 512;

/// A bf16 cache in pairs: sixteen positions of a block make a group. Its keys are head_dim / 2
/// lines of 64 bytes, each two elements of every position; its values 8 pairs of positions, for
/// each element of the head first the one's, then the other's. For blocks of whole groups and heads
/// of whole vectors; offsets of blocks and heads are as in rows.
constexpr int pair_group = 16;
constexpr int64_t pair_line = 64;

struct kernel_table {
  void (*linear[element_kinds])(const linear_job& job, const tile_range& range);
  /// Weights in blocks of f8_b128; k is whole blocks.
  void (*linear_f8)(const linear_job& job, const tile_range& range);
  /// x is bf16; null where the machine has no such instruction.
  void (*linear_bf16_dot)(const linear_job& job, const tile_range& range);
  /// Weights in panels, by `panel_kind`; columns begin at a multiple of `panel_cols`. Null for bf16
  /// and f8_b128 where the machine multiplies no pairs.
  panel_function linear_panels[panel_kinds];
  /// Rows that a call of those covers at most; linear_scratch_bytes are enough for them.
  int64_t panel_call_rows;
  /// `n` floats as blocks for weights to which `added` was added, `halves` where they have a start
  /// for each half; what is no number gives a scale that is none.
  void (*to_bytes)(const float* from, int32_t added, bool halves, activation_block* out, int64_t n);
  /// `n` elements of blocks, [0] q8_0, [1] q4_0, as floats.
  void (*expand[2])(const unsigned char* from, float* out, int64_t n);
  /// The largest magnitude of every 32 of `n` floats; NaN where one of them is not finite.
  void (*extremes)(const float* from, float* out, int64_t n);
  /// The whole numbers nearest to from / divisor, held to low .. high; a divisor for every 32.
  void (*levels)(const float* from, const float* divisors, float low, float high, int8_t* out,
                 int64_t n);
  /// [0] f32 cache, [1] bf16 cache, [2] int8 cache
  void (*attention[3])(const attention_job& job);
  /// For a cache in pairs, which multiplies bf16; null where the machine has no such instruction.
  void (*attention_pairs)(const attention_job& job);
  /// `n` floats as the key or value of position `slot` of a group in pairs; values in rising order.
  void (*write_key_pairs)(const float* from, unsigned char* group, int64_t slot, int64_t n);
  void (*write_value_pairs)(const float* from, unsigned char* group, int64_t slot, int64_t n);
  /// out = from * scale
  void (*widen[element_kinds])(const void* from, float scale, float* out, int64_t n);
  void (*to_bf16)(const float* from, unsigned char* out, int64_t n);
  /// Signed bytes in units of the returned scale, which is NaN if not all of `from` is finite.
  float (*to_i8)(const float* from, unsigned char* out, int64_t n);
  float (*sum_of_squares)(const float* x, int64_t n);
  /// out = x * factor * gain
  void (*scale_by)(const float* x, float factor, const float* gain, float* out, int64_t n);
  /// Rotates pairs (first[i], second[i]).
  void (*rotate)(float* first, float* second, const float* cos, const float* sin, int64_t n);
  void (*gated)(gate act, const float* gate, const float* up, float* out, int64_t n);
};

/// Call a table's functions only on a machine that has its instructions.
extern const kernel_table portable_kernels;
extern const kernel_table avx2_kernels;
extern const kernel_table avx512_kernels;
/// For `kernel_table::linear_bf16_dot`.
void avx512_bf16_linear(const linear_job& job, const tile_range& range);
void avx512_bf16_linear_panels(const panel_job& job, const tile_range& range);
void avx512_f8_linear_panels(const panel_job& job, const tile_range& range);
/// For the functions of `kernel_table` that are named so.
void avx512_bf16_attention_pairs(const attention_job& job);
void avx512_bf16_write_key_pairs(const float* from, unsigned char* group, int64_t slot, int64_t n);
void avx512_bf16_write_value_pairs(const float* from, unsigned char* group, int64_t slot,
                                   int64_t n);
/// For `kernel_table::linear_panels`: those of blocks, by `panel_kind`.
extern const panel_function avx_vnni_byte_panels[byte_panel_kinds];
extern const panel_function avx512_vnni_byte_panels[byte_panel_kinds];
/// Use them only where `amx_works`.
void amx_linear_bf16(const panel_job& job, const tile_range& range);
extern const panel_function amx_byte_panels[byte_panel_kinds];
constexpr int64_t amx_call_rows = 256;

} // namespace troupe::gpu::cpu
