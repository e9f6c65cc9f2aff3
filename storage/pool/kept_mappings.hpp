#pragma once
#include <cstddef>
#include <cstdint>
#include <list>
#include <mutex>
#include <optional>
#include <vector>

#include "storage/integrity/checksum.hpp"

namespace troupe::storage {

/// A range of addresses for a file, and the slots of a pool that are mapped into it. Unmaps it at
/// its end.
class file_mapping {
public:
  static constexpr uint32_t no_slot = UINT32_MAX;

  /// Of addresses that were reserved; `chunks` of them may be mapped.
  file_mapping(std::byte* data, uint64_t size_bytes, size_t chunks)
      : data_{data}, size_bytes_{size_bytes}, slots_(chunks, no_slot) {}
  file_mapping(file_mapping&& other) noexcept;
  file_mapping& operator=(file_mapping&& other) noexcept;
  ~file_mapping();

  std::byte* data() const { return data_; }
  uint64_t size_bytes() const { return size_bytes_; }
  /// What is mapped at each chunk.
  std::vector<uint32_t>& slots() { return slots_; }
  size_t mapped() const;

private:
  std::byte* data_ = nullptr;
  uint64_t size_bytes_ = 0;
  std::vector<uint32_t> slots_;
};

/// Mappings of files that nobody uses now, for the next load of the same file: entering the pages
/// of a model into page tables takes a load from the pool as long as copying them. They keep no
/// chunk in the pool: what lies in a slot by then may belong to another file. All functions may be
/// called from any thread.
class kept_mappings {
public:
  /// Of at most so many chunks in all; those that were used last stay.
  explicit kept_mappings(size_t chunks_max) : chunks_max_{chunks_max} {}

  /// That of the file, which is then the caller's.
  std::optional<file_mapping> take(const checksum& file, uint64_t size_bytes);
  void keep(const checksum& file, file_mapping mapping);
  /// Chunks that are mapped now.
  size_t mapped() const;

private:
  struct entry {
    checksum file;
    file_mapping mapping;
  };
  const size_t chunks_max_;
  mutable std::mutex mutex_;
  std::list<entry> kept_; ///< that used last in front
  size_t mapped_ = 0;
};

} // namespace troupe::storage
