#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace troupe {

using sha256_digest = std::array<uint8_t, 32>;

/// SHA-256 of FIPS 180-4.
sha256_digest sha256(std::string_view bytes);
/// 64 lower-case hex digits.
std::string to_hex(const sha256_digest& digest);
std::optional<sha256_digest> digest_from_hex(std::string_view text);
/// In a time that does not depend on where they differ.
bool equal_in_constant_time(const sha256_digest& a, const sha256_digest& b);

} // namespace troupe
