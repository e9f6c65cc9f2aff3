#include "storage/integrity/checksum.hpp"

#include <xxhash.h>

#include <array>

namespace troupe::storage {

checksum checksum_of(std::span<const std::byte> bytes) {
  const auto sum = ::XXH3_128bits(bytes.data(), bytes.size());
  return {sum.low64, sum.high64};
}

std::string to_string(const checksum& x) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string out;
  for (const auto part : {x.high, x.low})
    for (int shift = 60; shift >= 0; shift -= 4)
      out += digits[(part >> shift) & 15];
  return out;
}

} // namespace troupe::storage
