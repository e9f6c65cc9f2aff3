#pragma once
#include <cstring>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "storage/errors.hpp"
#include "storage/pool/chunk_pool.hpp"
#include "tests/storage/model_files.hpp"

namespace troupe::storage::test {

constexpr uint32_t small_chunk = 8192;

inline chunk_key key_of(uint64_t file, uint64_t index) {
  return {{file, ~file}, index * small_chunk};
}

/// What the chunk of `key` holds in these tests.
inline std::vector<std::byte> content_of(const chunk_key& key, size_t length = small_chunk) {
  std::mt19937_64 random{key.file.low * 1'000'003 + key.offset};
  std::vector<std::byte> out(length);
  for (auto& byte : out)
    byte = static_cast<std::byte>(random());
  return out;
}

inline instant at_second(int64_t x) { return instant{std::chrono::seconds{x}}; }

inline std::shared_ptr<chunk_pool> open_pool(const std::filesystem::path& path, uint32_t chunks,
                                             chunk_pool_options options = {}) {
  options.path = path;
  options.chunk_bytes = small_chunk;
  options.size_bytes = uint64_t{chunks} * small_chunk;
  auto out = chunk_pool::open(std::move(options));
  EXPECT_TRUE(out) << describe(out.error());
  return out ? *out : nullptr;
}

/// Fills and publishes; an empty lease if there was no room.
inline chunk_lease put(chunk_pool& pool, const chunk_key& key, instant used = at_second(1),
                       double reload_seconds = 1, size_t length = small_chunk) {
  auto fill = pool.begin(length, used);
  if (!fill)
    return {};
  const auto content = content_of(key, length);
  std::memcpy(fill->room().data(), content.data(), length);
  return pool.publish(std::move(*fill), key, checksum_of(content), reload_seconds, used);
}

inline bool holds(const chunk_lease& lease, const chunk_key& key, size_t length = small_chunk) {
  const auto content = content_of(key, length);
  return lease.bytes().size() == length &&
         std::memcmp(lease.bytes().data(), content.data(), length) == 0;
}

} // namespace troupe::storage::test
