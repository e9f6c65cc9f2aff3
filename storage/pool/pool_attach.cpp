#include <algorithm>
#include <cstddef>
#include <cstring>

#include "storage/errors.hpp"
#include "storage/pool/chunk_pool.hpp"

/// How a pool takes over what an earlier process left, or begins empty.
namespace troupe::storage {

using pool_layout::phase;

namespace {

/// Chunks begin where a huge page could.
constexpr uint64_t data_alignment = 2u << 20;

uint64_t sum_of(const pool_layout::header& head) {
  return checksum_of(
             {reinterpret_cast<const std::byte*>(&head), offsetof(pool_layout::header, sum)})
      .low;
}

} // namespace

bool chunk_pool::header_fits(const pool_layout::header& head) const {
  return head.magic == pool_layout::magic && head.version == pool_layout::version &&
         head.chunk_bytes == options_.chunk_bytes && head.chunk_count == chunk_count() &&
         head.entry_count == head.chunk_count * pool_layout::entries_per_chunk &&
         head.sum == sum_of(head);
}

caf::error chunk_pool::attach() {
  const auto count = options_.size_bytes / options_.chunk_bytes;
  const auto entry_count = count * pool_layout::entries_per_chunk;
  const auto entries_at = pool_layout::header_bytes + count * sizeof(pool_layout::slot_record);
  const auto metadata = entries_at + entry_count * sizeof(pool_layout::entry_record);
  data_offset_ = (metadata + data_alignment - 1) / data_alignment * data_alignment;
  const auto whole = data_offset_ + count * options_.chunk_bytes;
  slots_.resize(count);
  bool fresh = region_.size_bytes() != whole;
  for (;;) {
    if (auto why = region_.map(whole, fresh))
      return why;
    if (auto why = region_.commit(0, metadata))
      return why;
    auto* base = region_.data();
    header_ = reinterpret_cast<pool_layout::header*>(base);
    slot_records_ = reinterpret_cast<pool_layout::slot_record*>(base + pool_layout::header_bytes);
    entry_records_ = reinterpret_cast<pool_layout::entry_record*>(base + entries_at);
    if (fresh || header_fits(*header_))
      break;
    fresh = true; // another version, or not a pool at all
  }
  if (fresh) {
    header_->magic = pool_layout::magic;
    header_->version = pool_layout::version;
    header_->chunk_bytes = options_.chunk_bytes;
    header_->chunk_count = count;
    header_->entry_count = entry_count;
    header_->sum = sum_of(*header_);
  }
  header_->generation = header_->generation + 1;
  adopt_slots();
  adopt_entries();
  // Taken from the end: room that was made ready by an earlier process comes first.
  std::stable_partition(free_.begin(), free_.end(),
                        [this](uint32_t slot) { return record(slot).committed == 0; });
  return {};
}

void chunk_pool::adopt_slots() {
  for (auto slot = chunk_count(); slot-- > 0;) {
    auto& x = record(slot);
    const auto was = x.state.load(std::memory_order_acquire);
    const bool whole = was == phase::ready && x.content.length <= options_.chunk_bytes &&
                       x.content.length <= x.committed &&
                       x.record_sum == checksum_of(std::as_bytes(std::span{&x.content, 1})).low;
    // Of two slots of one content the second can only be a leftover.
    if (whole && contents_.emplace(x.content.sum, slot).second) {
      counts_.held_bytes += x.content.length;
      ++counts_.reattached;
      continue;
    }
    if (was != phase::empty) {
      // The disk may still be writing into it on behalf of the process that died.
      region_.punch(region_offset(slot), options_.chunk_bytes);
      x.committed = 0;
    }
    x.state.store(phase::empty, std::memory_order_release);
    free_.push_back(slot);
  }
}

void chunk_pool::adopt_entries() {
  const auto entry_count = static_cast<uint32_t>(header_->entry_count);
  index_.reserve(counts_.reattached);
  for (auto entry = entry_count; entry-- > 0;) {
    auto& x = entry_records_[entry];
    const auto was = x.state.load(std::memory_order_acquire);
    if (was == phase::ready && x.key.slot < chunk_count() &&
        x.record_sum == checksum_of(std::as_bytes(std::span{&x.key, 1})).low) {
      const auto slot = static_cast<uint32_t>(x.key.slot);
      const auto& content = record(slot).content;
      const auto held = contents_.find(x.key.content.sum);
      if (held != contents_.end() && held->second == slot &&
          content.length == x.key.content.length &&
          index_.emplace(chunk_key{x.key.file, x.key.offset}, entry).second) {
        slots_[slot].entries.push_back(entry);
        continue;
      }
    }
    if (was != phase::empty)
      x.state.store(phase::empty, std::memory_order_release);
    free_entries_.push_back(entry);
  }
}

} // namespace troupe::storage
