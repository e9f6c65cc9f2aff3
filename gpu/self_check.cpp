#include "gpu/self_check.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "base/half.hpp"
#include "gpu/errors.hpp"

namespace troupe::gpu {
namespace {

constexpr int64_t hidden = 128, heads = 2, head_dim = 64, inner = 160, vocabulary = 32;
constexpr int64_t block_size = 16, blocks = 17, block_bytes = 2 * block_size * head_dim * 2;
/// More than any kernel for few rows takes at once, and not a multiple of a tile.
constexpr int64_t prompt_rows = 41;
/// Enough for cuBLASLt with every type of weight, and neither a multiple of a tile.
constexpr int64_t wide_rows = 261;
static_assert(wide_rows < blocks * block_size);

/// Numbers between -1 and 1 that are the same everywhere.
class numbers {
public:
  float next() {
    state_ = state_ * 6364136223846793005ull + 1442695040888963407ull;
    return static_cast<float>(static_cast<int32_t>(state_ >> 32)) * 0x1p-31f;
  }

private:
  uint64_t state_ = 1;
};

/// One layer's memory on a device. Every call that fails is remembered; the others are skipped.
class layer {
public:
  /// `f8`: one weight is of 8-bit floats.
  layer(device& on, bool f8) : on_{on}, f8_{f8} {}

  /// Embeds `rows` tokens at positions `past`.. and gives the last one's output.
  std::vector<float> run(int64_t past, int64_t rows) {
    load_weights();
    auto* x = floats(rows * hidden);
    auto* normed = floats(rows * hidden);
    on_.embedding({table_, ids(past, rows), x, rows, 1.0f});
    on_.rms_norm({x, normed, gain_, rows, 1, hidden, hidden, hidden});
    attend(normed, x, past, rows);
    on_.rms_norm({x, normed, gain_, rows, 1, hidden, hidden, hidden});
    auto* gate = floats(rows * inner);
    auto* up = floats(rows * inner);
    on_.linear({normed, gate_, {}, gate, rows, hidden, inner});
    on_.linear({normed, up_, {}, up, rows, hidden, inner});
    on_.gated_activation({gate, up, gate, rows, inner, inner, inner, inner, activation::silu});
    on_.linear({gate, down_, {}, x, rows, inner, hidden, true});
    const auto last = static_cast<int32_t>(rows - 1);
    auto* picked = floats(hidden);
    on_.gather_rows({x, upload(std::vector{last}), picked, 1, hidden, hidden});
    std::vector<float> out(hidden);
    on_.copy_to_host(out.data(), picked, out.size() * sizeof(float));
    synchronize();
    return out;
  }
  const caf::error& failure() const { return failure_; }

private:
  void* allocate(size_t size) {
    auto memory = on_.allocate(size);
    if (!memory) {
      failure_ = memory.error();
      return nullptr;
    }
    held_.push_back(std::move(*memory));
    return held_.back().data();
  }
  float* floats(int64_t count) {
    return static_cast<float*>(allocate(static_cast<size_t>(count) * sizeof(float)));
  }
  template <class T>
  T* upload(const std::vector<T>& values) {
    const auto size = values.size() * sizeof(T);
    void* out = allocate(size);
    if (out != nullptr)
      on_.copy_to_device(out, values.data(), size);
    synchronize(); // the values may go away
    return static_cast<T*>(out);
  }
  void synchronize() {
    if (auto why = on_.synchronize(); why && !failure_)
      failure_ = why;
  }
  weight random_weight(int64_t rows, int64_t cols) {
    std::vector<uint16_t> bits(static_cast<size_t>(rows * cols));
    for (auto& one : bits)
      one = float_to_bf16(random_.next() * 0.3f);
    return {upload(bits), dtype::bf16, rows, cols};
  }
  weight in_blocks(const weight& w) {
    void* out = allocate(bytes_of(dtype::q8_0, static_cast<uint64_t>(w.rows * w.cols)));
    if (out != nullptr)
      on_.quantize({w, out, dtype::q8_0});
    return {out, dtype::q8_0, w.rows, w.cols};
  }
  /// Of 128 columns, so that a row is a block.
  weight random_f8(int64_t rows) {
    constexpr auto layout = layout_of(dtype::f8_b128);
    static_assert(layout.elements == hidden);
    std::vector<unsigned char> bytes(static_cast<size_t>(rows) * layout.bytes);
    const float scale = 0.3f / 448;
    for (size_t at = 0; at < bytes.size(); at += layout.bytes) {
      std::memcpy(&bytes[at], &scale, sizeof scale);
      for (size_t i = at + sizeof scale; i < at + layout.bytes; ++i)
        bytes[i] = float_to_f8_e4m3(random_.next() * 448);
    }
    return {upload(bytes), dtype::f8_b128, rows, hidden};
  }
  void load_weights() {
    if (table_)
      return;
    table_ = random_weight(vocabulary, hidden);
    gain_ = random_weight(1, hidden);
    q_ = random_weight(heads * head_dim, hidden);
    k_ = random_weight(head_dim, hidden);
    v_ = f8_ ? random_f8(head_dim) : random_weight(head_dim, hidden);
    o_ = random_weight(hidden, heads * head_dim);
    gate_ = random_weight(inner, hidden);
    up_ = in_blocks(random_weight(inner, hidden));
    down_ = random_weight(hidden, inner);
    static_assert(block_bytes % kv_granule == 0);
    constexpr auto arena_bytes = static_cast<size_t>(blocks * block_bytes);
    cache_ = {static_cast<std::byte*>(allocate(arena_bytes)),
              arena_bytes,
              dtype::bf16,
              1,
              block_size,
              head_dim,
              0,
              block_bytes / 2};
  }
  static int32_t number_of(int64_t block) {
    return static_cast<int32_t>(block * block_bytes / kv_granule);
  }
  int32_t* ids(int64_t past, int64_t rows) {
    std::vector<int32_t> out;
    for (int64_t i = 0; i < rows; ++i)
      out.push_back(static_cast<int32_t>((past + i) * 7 % vocabulary));
    return upload(out);
  }

  void attend(const float* normed, float* x, int64_t past, int64_t rows) {
    constexpr auto wide = heads * head_dim;
    auto* q = floats(rows * wide);
    auto* k = floats(rows * head_dim);
    auto* v = floats(rows * head_dim);
    on_.linear({normed, q_, {}, q, rows, hidden, wide});
    on_.linear({normed, k_, {}, k, rows, hidden, head_dim});
    on_.linear({normed, v_, {}, v, rows, hidden, head_dim});
    std::vector<float> cos, sin;
    std::vector<int64_t> slots;
    for (int64_t i = past; i < past + rows; ++i) {
      slots.push_back(number_of(blocks - 1 - i / block_size) * block_size + i % block_size);
      for (int64_t d = 0; d < head_dim / 2; ++d) {
        const auto angle = static_cast<float>(i) / static_cast<float>(d + 1);
        cos.push_back(std::cos(angle));
        sin.push_back(std::sin(angle));
      }
    }
    const auto *on_cos = upload(cos), *on_sin = upload(sin);
    on_.rope({q, on_cos, on_sin, rows, heads, head_dim, head_dim, wide});
    on_.rope({k, on_cos, on_sin, rows, 1, head_dim, head_dim, head_dim});
    on_.kv_write({k, v, cache_, upload(slots), rows, head_dim, head_dim});
    attention_args args;
    args.q = q;
    args.cache = cache_;
    args.row_start = upload(std::vector{0, static_cast<int32_t>(rows)});
    args.context = upload(std::vector{static_cast<int32_t>(past + rows)});
    std::vector<int32_t> table;
    for (auto block = blocks; block > 0; --block)
      table.push_back(number_of(block - 1));
    args.block_table = upload(table);
    args.table_stride = blocks;
    args.sequences = 1;
    args.heads = heads;
    args.scale = 0.125f;
    args.out = floats(rows * wide);
    args.q_stride = args.out_stride = wide;
    args.rows = rows;
    on_.attention(args);
    on_.linear({args.out, o_, {}, x, rows, wide, hidden, true});
  }

  device& on_;
  const bool f8_;
  numbers random_;
  std::vector<buffer> held_;
  weight table_, gain_, q_, k_, v_, o_, gate_, up_, down_;
  kv_cache_view cache_;
  caf::error failure_;
};

} // namespace

caf::error self_check(device& device, products wide) {
  const auto reference = make_reference_device();
  const bool f8 = device.takes(dtype::f8_b128) && reference->takes(dtype::f8_b128);
  layer right{*reference, f8}, checked{device, f8};
  std::vector<std::pair<int64_t, int64_t>> runs{{0, prompt_rows}, {prompt_rows, 1}};
  if (wide == products::fastest)
    runs.push_back({0, wide_rows});
  for (const auto& [past, rows] : runs) {
    const auto want = right.run(past, rows);
    const auto got = checked.run(past, rows);
    if (checked.failure())
      return checked.failure();
    float largest = 0;
    for (const float value : want)
      largest = std::max(largest, std::abs(value));
    for (size_t i = 0; i < want.size(); ++i)
      // Rounding to bf16 on the way moves an output by about a hundredth; a NaN is never close.
      if (!(std::abs(got[i] - want[i]) <= largest / 20))
        return caf::make_error(errc::device_failed,
                               "checking " + device.name() + ": it computes " +
                                   std::to_string(got[i]) + " where " + std::to_string(want[i]) +
                                   " is right; update its driver, " +
                                   (rows == wide_rows ? "take `products: invariant`, " : "") +
                                   "or use the device cpu");
  }
  return {};
}

} // namespace troupe::gpu
