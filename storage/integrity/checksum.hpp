#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

namespace troupe::storage {

/// XXH3 with 128 bits: finds every accident (2^-128), not a forger. Where bytes of different owners
/// are to be held for equal, compare them.
struct checksum {
  uint64_t low = 0, high = 0;
  auto operator<=>(const checksum&) const = default;
};

checksum checksum_of(std::span<const std::byte> bytes);
/// 32 lower-case hex digits, as `xxh128sum` prints them.
std::string to_string(const checksum& x);

} // namespace troupe::storage

template <>
struct std::hash<troupe::storage::checksum> {
  size_t operator()(const troupe::storage::checksum& x) const noexcept { return x.low ^ x.high; }
};
