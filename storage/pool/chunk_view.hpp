#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/error.hpp"
#include "storage/pool/chunk_pool.hpp"

namespace troupe::storage {

/// A file as one range of addresses, its chunks mapped from wherever in the pool they lie: nothing
/// is copied. Addresses are fixed from the start, their bytes are there once `place` was called for
/// them. Keeps what was placed in the pool as long as it lives.
class chunk_view {
public:
  /// Reserves addresses for `size_bytes`, no memory.
  static caf::expected<std::unique_ptr<chunk_view>> make(std::shared_ptr<chunk_pool> pool,
                                                         uint64_t size_bytes);
  ~chunk_view();
  chunk_view(const chunk_view&) = delete;
  chunk_view& operator=(const chunk_view&) = delete;

  /// Maps a chunk at `offset`, a multiple of the chunk size. May be called from any thread, for one
  /// chunk once.
  caf::error place(uint64_t offset, chunk_lease chunk);
  /// Lets a placed chunk go. Same calls as `place`.
  void drop(uint64_t offset);
  /// Reading a part that was not placed, or dropped, raises SIGSEGV.
  std::span<const std::byte> bytes() const { return {data_, size_bytes_}; }

private:
  chunk_view(std::shared_ptr<chunk_pool> pool, uint64_t size_bytes);

  std::shared_ptr<chunk_pool> pool_;
  std::byte* data_ = nullptr;
  uint64_t size_bytes_ = 0;
  std::vector<chunk_lease> chunks_; ///< after pool_, so that they end first
};

} // namespace troupe::storage
