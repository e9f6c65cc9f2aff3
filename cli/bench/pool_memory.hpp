#pragma once
#include <cstdint>
#include <memory>
#include <span>

#include "base/error.hpp"
#include "base/memory_pinner.hpp"

namespace troupe::cli::bench {

/// Memory as a host pool has it: shared, in chunks of the pool's size, each pinned by itself where
/// there is somebody who pins.
class pool_memory {
public:
  /// Fails if the machine has, or pins, no such memory.
  static caf::expected<std::unique_ptr<pool_memory>> make(uint64_t size_bytes,
                                                          std::shared_ptr<memory_pinner> pinner);
  ~pool_memory();
  pool_memory(const pool_memory&) = delete;
  pool_memory& operator=(const pool_memory&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_bytes_}; }
  /// As `chunk_view::pinned`.
  pinned_run pinned(const std::byte* at, uint64_t size_bytes) const;

private:
  pool_memory(std::byte* data, uint64_t size_bytes, std::shared_ptr<memory_pinner> pinner)
      : data_{data}, size_bytes_{size_bytes}, pinner_{std::move(pinner)} {}
  std::span<std::byte> chunk_at(uint64_t offset) const;

  std::byte* const data_;
  const uint64_t size_bytes_;
  const std::shared_ptr<memory_pinner> pinner_;
  uint64_t pinned_bytes_ = 0; ///< from the first on
};

} // namespace troupe::cli::bench
