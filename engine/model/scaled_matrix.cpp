#include "engine/model/scaled_matrix.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/half.hpp"
#include "engine/errors.hpp"

namespace troupe::engine {

namespace {

constexpr auto block = static_cast<int64_t>(block_elements);

template <class T>
T element(const void* data, int64_t i) {
  T out;
  std::memcpy(&out, static_cast<const std::byte*>(data) + i * int64_t{sizeof out}, sizeof out);
  return out;
}

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

int bits_of(weight_code code) { return code == weight_code::packed4 ? 4 : 8; }

const std::array<float, 256>& f8_values() {
  static const auto values = [] {
    std::array<float, 256> out{};
    for (size_t i = 0; i < out.size(); ++i)
      out[i] = f8_e4m3_to_float(static_cast<uint8_t>(i));
    return out;
  }();
  return values;
}

/// Calls body(code(k)) for the codes of a row.
template <class Body>
void each_code(weight_code code, const std::byte* row, int64_t begin, int64_t end,
               const Body& body) {
  const auto byte = [row](int64_t i) { return std::to_integer<int>(row[i]); };
  switch (code) {
  case weight_code::f8_e4m3:
    for (auto k = begin; k < end; ++k)
      body(k, f8_values()[static_cast<size_t>(byte(k))]);
    return;
  case weight_code::int8:
    for (auto k = begin; k < end; ++k)
      body(k, static_cast<float>(static_cast<int8_t>(byte(k))));
    return;
  case weight_code::packed8:
    for (auto k = begin; k < end; ++k)
      body(k, static_cast<float>(byte(k) - 128));
    return;
  case weight_code::packed4:
    for (auto k = begin; k < end; ++k)
      body(k, static_cast<float>((byte(k / 2) >> k % 2 * 4 & 15) - 8));
    return;
  }
}

bool has_nan_code(const std::byte* codes, int64_t count) {
  unsigned found = 0;
  for (int64_t i = 0; i < count; ++i)
    found |= static_cast<unsigned>((std::to_integer<unsigned>(codes[i]) & 0x7fu) == 0x7fu);
  return found != 0;
}

} // namespace

dtype scaled_type(const scaled_form& form, const std::vector<int64_t>& shape, dtype scales) {
  const auto inputs = shape[1];
  const auto width = form.cols < 0 ? inputs : form.cols;
  constexpr int64_t wide = layout_of(dtype::f8_b128).elements;
  if (form.code == weight_code::f8_e4m3)
    return inputs % wide == 0 && (width % wide == 0 || width >= inputs) ? dtype::f8_b128
                                                                        : dtype::bf16;
  const bool whole = inputs % block == 0 && (width % block == 0 || width >= inputs);
  if (!whole || !form.symmetric || (scales != dtype::f16 && scales != dtype::bf16))
    return dtype::bf16;
  return form.code == weight_code::packed4 ? dtype::q4_0 : dtype::q8_0;
}

scaled_matrix::scaled_matrix(std::string name, const std::vector<int64_t>& of,
                             const scaled_form& form, parts from)
    : name_{std::move(name)}, shape_{of}, code_{form.code}, rows_{form.rows < 0 ? of[0]
                                                                                : form.rows},
      cols_{form.cols < 0 ? of[1] : form.cols}, groups_{ceil_div(of[1], cols_)},
      from_{std::move(from)}, type_{scaled_type(form, of, from_.scales.type)} {}

std::vector<const weight_view*> scaled_matrix::parts::beside() const {
  std::vector<const weight_view*> out{&scales};
  for (const auto* part : {&zeros, &order, &shape})
    if (*part)
      out.push_back(&**part);
  return out;
}

caf::error scaled_matrix::wrong(const std::string& part, const std::string& what) const {
  return caf::make_error(errc::wrong_tensor, "tensor " + name_ + part + " " + what);
}

caf::error scaled_matrix::read_shape() const {
  if (!from_.shape)
    return {};
  const bool wide = from_.shape->type == dtype::i64;
  for (int64_t i = 0; i < 2; ++i) {
    const auto side = wide ? element<int64_t>(from_.shape->data, i)
                           : int64_t{element<int32_t>(from_.shape->data, i)};
    if (side != shape_[static_cast<size_t>(i)])
      return wrong("_shape", "says " + std::to_string(side) + ", but the configuration asks for " +
                                 std::to_string(shape_[static_cast<size_t>(i)]));
  }
  return {};
}

caf::error scaled_matrix::read_order() {
  order_.clear();
  if (!from_.order)
    return {};
  bool side_by_side = true;
  for (int64_t k = 0; k < shape_[1]; ++k) {
    const auto group = element<int32_t>(from_.order->data, k);
    if (group == -1) { // was made, but never filled in
      order_.clear();
      return {};
    }
    if (group < 0 || group >= groups_)
      return wrong("_g_idx",
                   "names group " + std::to_string(group) + " of " + std::to_string(groups_));
    side_by_side = side_by_side && group == k / cols_;
    order_.push_back(group);
  }
  if (side_by_side)
    order_.clear();
  return {};
}

caf::error scaled_matrix::read_scales() {
  f16_scales_ = from_.scales.type != dtype::f32;
  for (int64_t at = 0; at < ceil_div(shape_[0], rows_) * groups_; ++at) {
    const auto value = scale(at);
    if (!std::isfinite(value))
      return wrong("", "has a scale that is no number, the one at " + std::to_string(at));
    f16_scales_ = f16_scales_ && f16_to_float(float_to_f16(value)) == value;
  }
  return {};
}

bool scaled_matrix::have_zeros() const {
  for (int64_t n = 0; from_.zeros && n < shape_[0]; n += rows_)
    for (int64_t g = 0; g < groups_; ++g)
      if (zero(n, g) != 0)
        return true;
  return false;
}

bool scaled_matrix::is_exact() const { return f16_scales_ && !zeros_ && order_.empty(); }

caf::error scaled_matrix::look() {
  if (auto why = read_shape())
    return why;
  if (auto why = read_order())
    return why;
  if (auto why = read_scales())
    return why;
  zeros_ = have_zeros();
  if ((type_ == dtype::q8_0 || type_ == dtype::q4_0) && !is_exact())
    return wrong("", "has zeros, an order or scales that its configuration does not tell of");
  return {};
}

caf::error scaled_matrix::look_and_choose() {
  const auto blocks = std::exchange(type_, dtype::bf16);
  if (auto why = look())
    return why;
  if (is_exact() || code_ == weight_code::f8_e4m3)
    type_ = blocks;
  return {};
}

void scaled_matrix::choose_unseen() {
  if (code_ != weight_code::f8_e4m3 && (from_.zeros || from_.order))
    type_ = dtype::bf16;
}

int64_t scaled_matrix::row_bytes() const {
  const bool packed = code_ == weight_code::packed4 || code_ == weight_code::packed8;
  return packed ? ceil_div(shape_[1] * bits_of(code_), 32) * 4 : shape_[1];
}

const std::byte* scaled_matrix::row_of(int64_t n) const {
  return static_cast<const std::byte*>(from_.codes.data) + n * row_bytes();
}

int64_t scaled_matrix::scale_at(int64_t n, int64_t group) const {
  return n / rows_ * groups_ + group;
}

float scaled_matrix::scale(int64_t at) const {
  const auto* data = from_.scales.data;
  if (from_.scales.type == dtype::f32)
    return element<float>(data, at);
  const auto bits = element<uint16_t>(data, at);
  return from_.scales.type == dtype::f16 ? f16_to_float(bits) : bf16_to_float(bits);
}

int scaled_matrix::zero(int64_t n, int64_t group) const {
  const auto row = n / rows_;
  if (from_.zeros->type == dtype::i8)
    return element<int8_t>(from_.zeros->data, row * groups_ + group);
  const auto bits = bits_of(code_), per_word = 32 / bits;
  const auto word = element<uint32_t>(from_.zeros->data, row / per_word * groups_ + group);
  const auto stored = word >> row % per_word * bits & ((1u << bits) - 1);
  return static_cast<int>(stored) - (1 << (bits - 1));
}

void scaled_matrix::make_row_bf16(int64_t n, std::byte* to) const {
  const auto put = [to](int64_t k, float value) {
    const auto rounded = float_to_bf16(value);
    std::memcpy(to + k * 2, &rounded, sizeof rounded);
  };
  const auto zero_of = [&](int64_t group) {
    return zeros_ ? static_cast<float>(zero(n, group)) : 0.0f;
  };
  if (!order_.empty())
    return each_code(code_, row_of(n), 0, shape_[1], [&](int64_t k, float code) {
      const int64_t group = order_[static_cast<size_t>(k)];
      put(k, scale(scale_at(n, group)) * (code - zero_of(group)));
    });
  for (int64_t group = 0; group < groups_; ++group) {
    const auto factor = scale(scale_at(n, group)), offset = zero_of(group);
    const auto end = std::min(shape_[1], (group + 1) * cols_);
    each_code(code_, row_of(n), group * cols_, end,
              [&](int64_t k, float code) { put(k, factor * (code - offset)); });
  }
}

void scaled_matrix::make_row_f8(int64_t n, std::byte* to) const {
  constexpr int64_t wide = layout_of(dtype::f8_b128).elements;
  const auto* from = row_of(n);
  for (int64_t k = 0; k < shape_[1]; k += wide) {
    const auto factor = scale(scale_at(n, k / cols_));
    std::memcpy(to, &factor, sizeof factor);
    to = std::copy_n(from + k, wide, to + sizeof factor);
  }
}

void scaled_matrix::make_row_q8_0(int64_t n, std::byte* to) const {
  const auto* from = row_of(n);
  const auto turned = code_ == weight_code::packed8 ? std::byte{128} : std::byte{0};
  for (int64_t k = 0; k < shape_[1]; k += block, to += bytes_of(dtype::q8_0, block_elements)) {
    const auto bits = float_to_f16(scale(scale_at(n, k / cols_)));
    std::memcpy(to, &bits, sizeof bits);
    std::transform(from + k, from + k + block, to + 2, [=](std::byte x) { return x ^ turned; });
  }
}

void scaled_matrix::make_row_q4_0(int64_t n, std::byte* to) const {
  const auto nibble = [from = row_of(n)](int64_t k) {
    return std::to_integer<int>(from[k / 2]) >> k % 2 * 4 & 15;
  };
  for (int64_t k = 0; k < shape_[1]; k += block, to += bytes_of(dtype::q4_0, block_elements)) {
    const auto bits = float_to_f16(scale(scale_at(n, k / cols_)));
    std::memcpy(to, &bits, sizeof bits);
    for (int64_t i = 0; i < block / 2; ++i)
      to[2 + i] = static_cast<std::byte>(nibble(k + i) | nibble(k + block / 2 + i) << 4);
  }
}

void scaled_matrix::make(int64_t first, int64_t count, std::byte* to) const {
  for (auto n = first; n < first + count; ++n) {
    if (code_ == weight_code::f8_e4m3 && has_nan_code(row_of(n), shape_[1]))
      bad_row_ = n;
    switch (type_) {
    case dtype::q8_0:
      make_row_q8_0(n, to);
      break;
    case dtype::q4_0:
      make_row_q4_0(n, to);
      break;
    case dtype::f8_b128:
      make_row_f8(n, to);
      break;
    default:
      make_row_bf16(n, to);
    }
    to += bytes_of(type_, static_cast<uint64_t>(shape_[1]));
  }
}

caf::error scaled_matrix::verdict() const {
  const auto row = bad_row_.load();
  if (row < 0)
    return {};
  return wrong("", "holds codes that are no number (NaN), in row " + std::to_string(row) +
                       "; the checkpoint is damaged, or was quantized from damaged weights");
}

} // namespace troupe::engine
