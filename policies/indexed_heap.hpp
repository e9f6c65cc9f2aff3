#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

namespace troupe::policies {

/// A least-first heap of (key, item) whose items can be moved and removed: four children per
/// place, keys beside items, and where an item lies in `Places`, which several heaps may share as
/// long as an item is in one of them. Equal keys go by item, so that order never depends on
/// history.
///
/// Places begin at 3, so that four siblings begin at a multiple of 4 and share a cache line
/// (LaMarca and Ladner, "The Influence of Caches on the Performance of Heaps", 1996).
class indexed_heap {
public:
  static constexpr uint32_t absent = UINT32_MAX;
  using places = std::vector<uint32_t>;

  bool empty() const { return size() == 0; }
  size_t size() const { return end_ - root; }
  uint32_t top() const { return cell_at(root).item; }
  double top_key() const { return cell_at(root).key; }

  void push(double key, uint32_t item, places& where) {
    if (end_ >= 4 * lines_.size())
      lines_.resize(std::max<size_t>(2, 2 * lines_.size()));
    rise(end_++, {key, item}, where);
  }
  /// The item must be in this heap.
  void update(double key, uint32_t item, places& where) { move(where[item], {key, item}, where); }
  void erase(uint32_t item, places& where) {
    const size_t at = where[item];
    where[item] = absent;
    const auto moved = std::exchange(cell_at(--end_), cell{});
    if (moved.item != item)
      move(at, moved, where);
  }

private:
  /// Unless set, it comes after every other, so that four siblings can be compared blindly.
  struct cell {
    double key = std::numeric_limits<double>::infinity();
    uint32_t item = absent;
  };
  struct alignas(64) line {
    cell cells[4];
  };
  static constexpr size_t root = 3;

  // Without short cuts: which of two comes first is anybody's guess, and a wrong one costs more.
  static bool less(const cell& a, const cell& b) {
    return (a.key < b.key) | ((a.key == b.key) & (a.item < b.item));
  }
  void move(size_t at, cell x, places& where) {
    at > root&& less(x, cell_at(parent_of(at))) ? rise(at, x, where) : sink(at, x, where);
  }
  static size_t parent_of(size_t at) { return at / 4 + 2; }
  void put(size_t at, const cell& x, places& where) {
    cell_at(at) = x;
    where[x.item] = static_cast<uint32_t>(at);
  }
  void rise(size_t at, cell x, places& where) {
    for (; at > root && less(x, cell_at(parent_of(at))); at = parent_of(at))
      put(at, cell_at(parent_of(at)), where);
    put(at, x, where);
  }
  void sink(size_t at, cell x, places& where) {
    for (;;) {
      const size_t first = 4 * (at - 2);
      if (first >= end_)
        break;
      const auto& four = lines_[first / 4].cells;
      const size_t left = less(four[1], four[0]) ? 1 : 0;
      const size_t right = less(four[3], four[2]) ? 3 : 2;
      const size_t least = first + (less(four[right], four[left]) ? right : left);
      if (!less(cell_at(least), x))
        break;
      put(at, cell_at(least), where);
      at = least;
    }
    put(at, x, where);
  }

  cell& cell_at(size_t at) { return lines_[at / 4].cells[at % 4]; }
  const cell& cell_at(size_t at) const { return lines_[at / 4].cells[at % 4]; }

  std::vector<line> lines_;
  size_t end_ = root; ///< behind the last
};

} // namespace troupe::policies
