#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace troupe::policies {

/// Spreads ids over all bits (the finalizer of SplitMix64).
constexpr uint64_t mix_bits(uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

/// Finds the slot of an id; the ids themselves lie in the slots. Open addressing with linear
/// probing and no tombstones, at most half full: a lookup is about one cache line.
/// `HashAt(slot)` gives the hash of what lies there.
class id_table {
public:
  static constexpr uint32_t none = UINT32_MAX;

  template <class Equal>
  uint32_t find(uint64_t hash, Equal equal) const {
    if (cells_.empty())
      return none;
    for (auto at = hash & mask_;; at = (at + 1) & mask_) {
      const auto slot = cells_[at];
      if (slot == none || equal(slot))
        return slot;
    }
  }

  /// The id must not be in the table.
  template <class HashAt>
  void insert(uint64_t hash, uint32_t slot, HashAt hash_at) {
    if ((size_ + 1) * 2 > cells_.size())
      grow(hash_at);
    place(hash, slot);
    ++size_;
  }

  /// Removes the cell of `slot`, which must be there, and moves followers into the gap.
  template <class HashAt>
  void erase(uint64_t hash, uint32_t slot, HashAt hash_at) {
    auto gap = hash & mask_;
    while (cells_[gap] != slot)
      gap = (gap + 1) & mask_;
    for (auto at = (gap + 1) & mask_; cells_[at] != none; at = (at + 1) & mask_) {
      const auto home = hash_at(cells_[at]) & mask_;
      if (((at - home) & mask_) < ((at - gap) & mask_))
        continue; // it would come to lie before its home
      cells_[gap] = cells_[at];
      gap = at;
    }
    cells_[gap] = none;
    --size_;
  }

  size_t size() const { return size_; }

private:
  void place(uint64_t hash, uint32_t slot) {
    auto at = hash & mask_;
    while (cells_[at] != none)
      at = (at + 1) & mask_;
    cells_[at] = slot;
  }
  template <class HashAt>
  void grow(HashAt hash_at) {
    const auto before = std::move(cells_);
    cells_.assign(before.empty() ? 16 : before.size() * 2, none);
    mask_ = cells_.size() - 1;
    for (const auto slot : before)
      if (slot != none)
        place(hash_at(slot), slot);
  }

  std::vector<uint32_t> cells_;
  uint64_t mask_ = 0;
  size_t size_ = 0;
};

} // namespace troupe::policies
