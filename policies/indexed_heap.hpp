#pragma once
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace troupe::policies {

/// A least-first heap of (key, item) whose items can be moved and removed: four children per
/// place, keys beside items, and where an item lies in `Places`, which several heaps may share as
/// long as an item is in one of them. Equal keys go by item, so that order never depends on
/// history.
class indexed_heap {
public:
  static constexpr uint32_t absent = UINT32_MAX;
  using places = std::vector<uint32_t>;

  bool empty() const { return cells_.empty(); }
  size_t size() const { return cells_.size(); }
  uint32_t top() const { return cells_.front().item; }
  double top_key() const { return cells_.front().key; }

  void push(double key, uint32_t item, places& where) {
    cells_.push_back({key, item});
    rise(cells_.size() - 1, where);
  }
  /// The item must be in this heap.
  void update(double key, uint32_t item, places& where) {
    const size_t at = where[item];
    const bool up = less({key, item}, cells_[at]);
    cells_[at].key = key;
    up ? rise(at, where) : sink(at, where);
  }
  void erase(uint32_t item, places& where) {
    const size_t at = where[item];
    where[item] = absent;
    const auto moved = cells_.back();
    cells_.pop_back();
    if (moved.item == item)
      return;
    const bool up = less(moved, cells_[at]);
    cells_[at] = moved;
    up ? rise(at, where) : sink(at, where);
  }

private:
  struct cell {
    double key;
    uint32_t item;
  };
  static bool less(const cell& a, const cell& b) {
    return a.key < b.key || (a.key == b.key && a.item < b.item);
  }
  void rise(size_t at, places& where) {
    const auto x = cells_[at];
    for (; at > 0; at = (at - 1) / 4) {
      const auto& parent = cells_[(at - 1) / 4];
      if (!less(x, parent))
        break;
      cells_[at] = parent;
      where[parent.item] = static_cast<uint32_t>(at);
    }
    cells_[at] = x;
    where[x.item] = static_cast<uint32_t>(at);
  }
  void sink(size_t at, places& where) {
    const auto x = cells_[at];
    for (;;) {
      const size_t first = at * 4 + 1;
      if (first >= cells_.size())
        break;
      size_t least = first;
      for (size_t i = first + 1; i < first + 4 && i < cells_.size(); ++i)
        if (less(cells_[i], cells_[least]))
          least = i;
      if (!less(cells_[least], x))
        break;
      cells_[at] = cells_[least];
      where[cells_[at].item] = static_cast<uint32_t>(at);
      at = least;
    }
    cells_[at] = x;
    where[x.item] = static_cast<uint32_t>(at);
  }

  std::vector<cell> cells_;
};

} // namespace troupe::policies
