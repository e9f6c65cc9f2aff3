#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "gpu/cpu/element.hpp"
#include "gpu/device.hpp"

/// Random inputs for the ops of gpu/, shared by the tests of the CPU backends.
namespace troupe::gpu::test {

class random_data {
public:
  explicit random_data(uint64_t seed) : engine_{seed} {}

  int64_t between(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>{low, high}(engine_);
  }
  template <class T>
  T one_of(std::initializer_list<T> choices) {
    return choices.begin()[between(0, static_cast<int64_t>(choices.size()) - 1)];
  }
  std::vector<float> floats(int64_t n, float spread = 1.0f) {
    std::normal_distribution<float> normal{0.0f, spread};
    std::vector<float> values(static_cast<size_t>(n));
    for (auto& value : values)
      value = normal(engine_);
    return values;
  }
  template <class T>
  void shuffle(std::vector<T>& values) {
    std::shuffle(values.begin(), values.end(), engine_);
  }

private:
  std::mt19937_64 engine_;
};

/// A random weight whose bytes begin at an odd address where `odd`, as in a mapped file, and end
/// where the heap block ends, so that a sanitizer sees any read past it.
class random_weight {
public:
  random_weight(random_data& random, dtype type, int64_t rows, int64_t cols, bool odd = true)
      : offset_{odd ? size_t{1} : size_t{0}}, type_{type}, rows_{rows}, cols_{cols},
        bytes_(static_cast<size_t>(rows * cols) * size_of(type) + offset_) {
    const auto values = random.floats(rows * cols, 0.5f);
    for (int64_t i = 0; i < rows * cols; ++i)
      cpu::store_element(bytes_.data() + offset_, type, i, values[static_cast<size_t>(i)]);
  }
  weight get() const { return {bytes_.data() + offset_, type_, rows_, cols_}; }

private:
  size_t offset_;
  dtype type_;
  int64_t rows_;
  int64_t cols_;
  std::vector<unsigned char> bytes_;
};

/// Rows of random blocks, as a file has them: every bit but those of the f16 numbers is random.
inline std::vector<unsigned char> random_blocks(random_data& random, dtype type, int64_t rows,
                                                int64_t cols) {
  std::vector<unsigned char> out(bytes_of(type, static_cast<uint64_t>(rows * cols)));
  for (auto& byte : out)
    byte = static_cast<unsigned char>(random.between(0, 255));
  if (type == dtype::f8_b128) {
    for (size_t at = 0; at < out.size(); at += layout_of(type).bytes) {
      const auto scale = random.floats(1, 0.002f)[0];
      std::memcpy(out.data() + at, &scale, sizeof scale);
      for (size_t i = at + sizeof scale; i < at + layout_of(type).bytes; ++i)
        out[i] = (out[i] & 0x7f) == 0x7f ? 0 : out[i]; // which is no number
    }
    return out;
  }
  const bool minimum =
      type == dtype::q4_1 || type == dtype::q5_1 || type == dtype::q4_k || type == dtype::q5_k;
  const size_t unit = type == dtype::q6_k ? 208 : 0;
  const float size = layout_of(type).elements == 256 ? 0.01f : 0.05f;
  for (size_t at = 0; at < out.size(); at += layout_of(type).bytes) {
    const auto numbers = random.floats(2, size);
    cpu::store_element(out.data() + at + unit, dtype::f16, 0, numbers[0]);
    if (minimum)
      cpu::store_element(out.data() + at, dtype::f16, 1, numbers[1]);
  }
  return out;
}

inline void round_to_bf16(std::vector<float>& values) {
  for (auto& value : values)
    value = bf16_to_float(float_to_bf16(value));
}

/// A cache whose blocks lie apart from one another in one arena; all ones, a NaN in every type,
/// where nothing was written.
class paged_cache {
public:
  /// A layer of `layers`: so far are the blocks apart.
  paged_cache(dtype type, int64_t blocks, int64_t kv_heads, int64_t block_size, int64_t head_dim,
              int64_t layers = 1) {
    constexpr int64_t gap = 64;
    const auto rows = kv_heads * block_size;
    const auto side = (rows * head_dim * static_cast<int64_t>(size_of(type)) + 63) / 64 * 64;
    const auto scales =
        type == dtype::i8 ? (rows * static_cast<int64_t>(sizeof(float)) + 63) / 64 * 64 : 0;
    view_.type = type;
    view_.kv_heads = kv_heads;
    view_.block_size = block_size;
    view_.head_dim = head_dim;
    view_.v_scales = gap;
    view_.k_scales = view_.v_scales + scales;
    view_.v = view_.k_scales + scales;
    view_.k = view_.v + side + gap;
    stride_ = (view_.k + side) * layers / kv_granule + 1;
    bytes_.assign(static_cast<size_t>(blocks * stride_ * kv_granule), std::byte{0xff});
    view_.arena = bytes_.data();
    view_.arena_bytes = bytes_.size();
  }
  paged_cache(const paged_cache&) = delete;

  const kv_cache_view& view() const { return view_; }
  /// What tables call block `index` of those that it was made with.
  int32_t number(int64_t index) const { return static_cast<int32_t>(index * stride_); }
  /// Slot `index` of those of all blocks in their order.
  int64_t slot(int64_t index) const {
    return number(index / view_.block_size) * view_.block_size + index % view_.block_size;
  }
  /// One of a slot's head's parts: `offset` is of the view, an item has `size_bytes`.
  const std::byte* at(int64_t index, int64_t head, int64_t offset, int64_t size_bytes) const {
    const auto row = head * view_.block_size + index % view_.block_size;
    return block_at(view_, number(index / view_.block_size)) + offset + row * size_bytes;
  }
  const std::vector<std::byte>& bytes() const { return bytes_; }

private:
  kv_cache_view view_;
  int64_t stride_ = 0; ///< in granules
  std::vector<std::byte> bytes_;
};

struct attention_shape {
  int64_t head_dim = 64;
  int64_t kv_heads = 2;
  int64_t group = 1; ///< query heads per key/value head
  int64_t block_size = 16;
  int64_t window = 0;
  dtype type = dtype::bf16;
  std::vector<int32_t> rows;    ///< per sequence
  std::vector<int32_t> context; ///< per sequence
  int64_t layers = 1;
};

/// A paged cache with every position of every sequence written, blocks in random order, and NaN
/// wherever no sequence may look. Devices lay caches out as they like, so each writes its own.
class attention_case {
public:
  attention_case(random_data& random, attention_shape shape) : shape_{std::move(shape)} {
    const auto sequences = static_cast<int64_t>(shape_.rows.size());
    for (const auto context : shape_.context)
      table_stride_ = std::max(table_stride_, blocks_for(context));
    for (const auto context : shape_.context)
      blocks_ += blocks_for(context);
    clear();
    std::vector<int32_t> free;
    for (int64_t i = 0; i < blocks_; ++i)
      free.push_back(cache_->number(i));
    random.shuffle(free);
    table_.assign(static_cast<size_t>(sequences * table_stride_), -1000000);
    row_start_.push_back(0);
    for (int64_t s = 0; s < sequences; ++s) {
      for (int64_t b = 0; b < blocks_for(shape_.context[static_cast<size_t>(s)]); ++b) {
        table_[static_cast<size_t>(s * table_stride_ + b)] = free.back();
        free.pop_back();
      }
      row_start_.push_back(row_start_.back() + shape_.rows[static_cast<size_t>(s)]);
    }
    const int64_t row = shape_.kv_heads * shape_.head_dim;
    for (const auto context : shape_.context) {
      new_k_.push_back(random.floats(context * row));
      new_v_.push_back(random.floats(context * row));
    }
    q_ = random.floats(rows() * width());
  }

  /// Fills the cache. `at_once`: so many positions of a sequence in a call.
  void write(device& writer, int64_t at_once = std::numeric_limits<int64_t>::max()) {
    clear();
    const int64_t row = shape_.kv_heads * shape_.head_dim;
    for (size_t s = 0; s < shape_.rows.size(); ++s) {
      std::vector<int64_t> slots;
      for (int64_t t = 0; t < shape_.context[s]; ++t) {
        const auto entry = static_cast<int64_t>(s) * table_stride_ + t / shape_.block_size;
        slots.push_back(table_[static_cast<size_t>(entry)] * shape_.block_size +
                        t % shape_.block_size);
      }
      const auto count = static_cast<int64_t>(slots.size());
      for (int64_t t = 0; t < count; t += std::min(at_once, count - t))
        writer.kv_write({new_k_[s].data() + t * row, new_v_[s].data() + t * row, cache_->view(),
                         slots.data() + t, std::min(at_once, count - t), row, row});
    }
  }

  int64_t rows() const { return row_start_.back(); }
  int64_t width() const { return shape_.group * shape_.kv_heads * shape_.head_dim; }
  const attention_shape& shape() const { return shape_; }

  /// Of the cache as `write` left it.
  attention_args args(float* out) {
    attention_args args;
    args.q = q_.data();
    args.cache = cache_->view();
    args.row_start = row_start_.data();
    args.context = shape_.context.data();
    args.block_table = table_.data();
    args.table_stride = table_stride_;
    args.sequences = static_cast<int64_t>(shape_.rows.size());
    args.heads = shape_.group * shape_.kv_heads;
    args.window = shape_.window;
    args.scale = 0.125f;
    args.out = out;
    args.q_stride = width();
    args.out_stride = width();
    return args;
  }
  std::vector<float> run(device& dev) {
    write(dev);
    std::vector<float> out(static_cast<size_t>(rows() * width()), -1.0f);
    dev.attention(args(out.data()));
    return out;
  }

private:
  int64_t blocks_for(int64_t positions) const {
    return (positions + shape_.block_size - 1) / shape_.block_size;
  }

  void clear() {
    cache_.emplace(shape_.type, blocks_, shape_.kv_heads, shape_.block_size, shape_.head_dim,
                   shape_.layers);
  }

  attention_shape shape_;
  int64_t table_stride_ = 0;
  int64_t blocks_ = 2;                            ///< two that no sequence has
  std::vector<std::vector<float>> new_k_, new_v_; ///< of each sequence
  std::vector<int32_t> table_;
  std::vector<int32_t> row_start_;
  std::optional<paged_cache> cache_;
  std::vector<float> q_;
};

/// One backend under test: an instruction set, or "cuda", and a rounding mode.
struct backend {
  std::string isa;
  precision mode = precision::automatic;
  unsigned threads = 2;
  products wide = products::invariant;
  /// Takes host pointers, whatever the backend.
  std::unique_ptr<device> make() const;
  /// Whether bf16 weights make it round activations to bf16.
  bool rounds_to_bf16() const {
    return (isa == "avx512_bf16" || isa == "amx" || isa == "cuda") && mode == precision::automatic;
  }
  /// Whether attention over such a cache rounds queries and weights to bf16.
  bool rounds_attention(dtype cache) const { return rounds_to_bf16() && cache == dtype::bf16; }
  /// Whether weights in blocks make it round activations to bytes.
  bool rounds_to_bytes() const { return mode == precision::automatic; }
  std::string name() const { return mode == precision::automatic ? isa : isa + "_float32"; }
};

/// Every backend of this test binary that the machine can run, in its usual mode.
std::vector<backend> all_backends();
/// Every backend in every rounding mode.
std::vector<backend> all_modes();
/// Those whose attention computes in float.
std::vector<backend> float_attention();

inline bool same_bits(const float* a, const float* b, int64_t n) {
  return std::memcmp(a, b, static_cast<size_t>(n) * sizeof(float)) == 0;
}

} // namespace troupe::gpu::test
