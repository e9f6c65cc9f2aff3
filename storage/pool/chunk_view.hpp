#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/error.hpp"
#include "storage/pool/chunk_pool.hpp"
#include "storage/pool/kept_mappings.hpp"

namespace troupe::storage {

/// A file as one range of addresses, its chunks mapped from wherever in the pool they lie: nothing
/// is copied. Addresses are fixed from the start, their bytes are there once `place` was called for
/// them. Keeps what was placed in the pool as long as it lives.
class chunk_view {
public:
  /// Where the mapping comes from and goes to, if it is worth keeping.
  struct shelf {
    std::shared_ptr<kept_mappings> of;
    checksum file; ///< which
  };
  /// Reserves addresses for `size_bytes`, no memory; or takes those that the file had before.
  static caf::expected<std::unique_ptr<chunk_view>> make(std::shared_ptr<chunk_pool> pool,
                                                         uint64_t size_bytes, shelf kept = {});
  ~chunk_view();
  chunk_view(const chunk_view&) = delete;
  chunk_view& operator=(const chunk_view&) = delete;

  /// Maps a chunk at `offset`, a multiple of the chunk size. May be called from any thread, for one
  /// chunk once.
  caf::error place(uint64_t offset, chunk_lease chunk);
  /// Lets a placed chunk go. Same calls as `place`.
  void drop(uint64_t offset);
  /// Reading a part that was not placed, or dropped, raises SIGSEGV; where the mapping is kept it
  /// shows what the pool holds there by then.
  std::span<const std::byte> bytes() const { return {mapping_.data(), mapping_.size_bytes()}; }
  /// Where devices read bytes of [offset, offset + size_bytes) by themselves, from the first one
  /// on; valid until one of them is dropped. The part is not empty, was placed, and is not dropped
  /// meanwhile.
  pinned_run pinned(uint64_t offset, uint64_t size_bytes) const;

private:
  chunk_view(std::shared_ptr<chunk_pool> pool, shelf kept, file_mapping mapping);

  std::shared_ptr<chunk_pool> pool_;
  shelf kept_;
  file_mapping mapping_;
  std::vector<chunk_lease> chunks_; ///< after pool_, so that they end first
};

} // namespace troupe::storage
