#pragma once
#include <array>
#include <cstdint>

namespace troupe::engine {

/// Philox4x32-10: a random number is a function of (key, counter), so a token's draw can be
/// repeated anywhere (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11).
constexpr std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter,
                                             std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = 0xd2511f53ull * counter[0];
    const uint64_t b = 0xcd9e8d57ull * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key[0] += 0x9e3779b9u;
    key[1] += 0xbb67ae85u;
  }
  return counter;
}

/// The draw for the token at `position` of a sequence with `seed`: 64 random bits.
constexpr uint64_t random_at(uint64_t seed, uint64_t position) {
  const auto words =
      philox4x32({static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), 0, 0},
                 {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  return static_cast<uint64_t>(words[0]) << 32 | words[1];
}

} // namespace troupe::engine
