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
/// probing and no tombstones, at most half full. Half of an id's hash lies beside its slot, so that
/// a lookup is about one cache line and touches no slot but the one that it finds.
class id_table {
public:
  static constexpr uint32_t none = UINT32_MAX;

  template <class Equal>
  uint32_t find(uint64_t hash, Equal equal) const {
    if (cells_.empty())
      return none;
    const auto tag = static_cast<uint32_t>(hash);
    for (auto at = tag & mask_;; at = (at + 1) & mask_) {
      const auto& x = cells_[at];
      if (x.slot == none || (x.tag == tag && equal(x.slot)))
        return x.slot;
    }
  }

  /// Has the memory that a lookup will need brought near while something else is done.
  void prefetch(uint64_t hash) const {
    if (!cells_.empty())
      __builtin_prefetch(&cells_[static_cast<uint32_t>(hash) & mask_]);
  }

  /// The id must not be in the table.
  void insert(uint64_t hash, uint32_t slot) {
    if ((size_ + 1) * 2 > cells_.size())
      grow();
    place({slot, static_cast<uint32_t>(hash)});
    ++size_;
  }

  /// Removes the cell of `slot`, which must be there, and moves followers into the gap.
  void erase(uint64_t hash, uint32_t slot) {
    auto gap = static_cast<uint32_t>(hash) & mask_;
    while (cells_[gap].slot != slot)
      gap = (gap + 1) & mask_;
    for (auto at = (gap + 1) & mask_; cells_[at].slot != none; at = (at + 1) & mask_) {
      const auto home = cells_[at].tag & mask_;
      if (((at - home) & mask_) < ((at - gap) & mask_))
        continue; // it would come to lie before its home
      cells_[gap] = cells_[at];
      gap = at;
    }
    cells_[gap] = {};
    --size_;
  }

  size_t size() const { return size_; }

private:
  struct cell {
    uint32_t slot = none;
    uint32_t tag = 0; ///< the low half of the hash, of which the lowest bits are its home
  };
  void place(cell x) {
    auto at = x.tag & mask_;
    while (cells_[at].slot != none)
      at = (at + 1) & mask_;
    cells_[at] = x;
  }
  void grow() {
    const auto before = std::move(cells_);
    cells_.assign(before.empty() ? 16 : before.size() * 2, cell{});
    mask_ = static_cast<uint32_t>(cells_.size() - 1);
    for (const auto& x : before)
      if (x.slot != none)
        place(x);
  }

  std::vector<cell> cells_;
  uint32_t mask_ = 0; ///< slots have 32 bits, so there are never more cells than tags tell apart
  size_t size_ = 0;
};

} // namespace troupe::policies
