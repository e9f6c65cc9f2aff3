#pragma once
#include <atomic>
#include <cstdint>
#include <type_traits>

#include "storage/integrity/checksum.hpp"

/// What lies in a pool's shared memory: header, slots, entries, then the chunks themselves. Only
/// the process that holds the file's lock touches it. Native byte order: it never leaves the
/// machine.
///
///   header | slot_record[chunk_count] | entry_record[entry_count] | pad | chunk 0 | chunk 1 | ...
///
/// Crash safety. A record counts only while its state is `ready` and its own checksum is right; it
/// is written before the state, and the state is cleared before it changes. The kernel loses
/// nothing that a killed process has written, so after `kill -9` at any instruction every record is
/// either whole or not ready. An entry repeats the checksum of the chunk it means, so one that
/// outlived its chunk is noticed, too.
namespace troupe::storage::pool_layout {

constexpr uint64_t magic = 0x6c6f6f7065707472; // "rtpepool"
constexpr uint32_t version = 1;
constexpr uint64_t header_bytes = 4096;
/// Several files may share one chunk.
constexpr uint64_t entries_per_chunk = 4;

enum class phase : uint32_t { empty = 0, filling = 1, ready = 2 };

struct header {
  uint64_t magic;
  uint32_t version;
  uint32_t chunk_bytes;
  uint64_t chunk_count;
  uint64_t entry_count;
  uint64_t sum;                     ///< of the fields above; written last
  std::atomic<uint64_t> generation; ///< processes that attached so far
};

/// What identifies the bytes of a chunk.
struct slot_content {
  checksum sum;
  uint64_t length = 0;
};

struct slot_record {
  std::atomic<phase> state;
  /// Bytes of the chunk's memory that exist; the rest is still a hole.
  std::atomic<uint32_t> committed;
  slot_content content;
  uint64_t record_sum;
  // Not covered by the sum: a torn value costs a bad eviction at worst.
  std::atomic<int64_t> used_ns;
  std::atomic<uint32_t> hits;
  std::atomic<uint32_t> order;
  std::atomic<float> heat;
  std::atomic<float> reload_seconds;
};

/// Says which part of which file a chunk is.
struct entry_key {
  checksum file;
  uint64_t offset = 0;
  slot_content content;
  uint64_t slot = 0;
};

struct entry_record {
  std::atomic<phase> state;
  entry_key key;
  uint64_t record_sum;
};

static_assert(std::atomic<phase>::is_always_lock_free);
static_assert(std::atomic<int64_t>::is_always_lock_free);
static_assert(std::has_unique_object_representations_v<slot_content>);
static_assert(std::has_unique_object_representations_v<entry_key>);

} // namespace troupe::storage::pool_layout
