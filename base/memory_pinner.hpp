#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/error.hpp"

namespace troupe {

/// Makes memory of this process such that devices read it by themselves, at the speed of their
/// link: its pages stay where they are ("pinned") and devices know them. Called by one thread at a
/// time.
class memory_pinner {
public:
  virtual ~memory_pinner() = default;
  /// Whole pages, none of which is pinned. They are read by devices until `unpin`, so they must not
  /// be given back before. Fails if the machine pins no more; they are then as they were.
  virtual caf::error pin(std::span<std::byte> memory) = 0;
  /// The memory of one `pin`, which no device is reading.
  virtual void unpin(std::span<std::byte> memory) noexcept = 0;
};

/// So many bytes from a place on are all pinned, by one `pin`, or are all not.
struct pinned_run {
  const std::byte* pinned = nullptr; ///< where devices read them; null = nowhere
  uint64_t size_bytes = 0;
};

} // namespace troupe
