#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace troupe::engine::jinja {

/// What the two ways of formatting share.

/// Widths and precisions beyond this are a mistake or an attack.
constexpr int64_t format_width_max = 1 << 20;

/// The digits of `x` in a base of at most 16, and |x|.
std::string digits_of(uint64_t x, int base, bool capital);
uint64_t magnitude(int64_t x);
/// `text` filled up to `width` code points; `how` is '<', '>' or '^'.
std::string fill_up(std::string_view text, int64_t width, std::string_view fill, char how);

} // namespace troupe::engine::jinja
