#include "storage/store/range_set.hpp"

#include <algorithm>
#include <iterator>

namespace troupe::storage {

void range_set::add(byte_range range) {
  if (range.length == 0)
    return;
  auto begin = range.offset;
  auto end = range.offset + range.length;
  auto at = ends_.upper_bound(begin);
  if (at != ends_.begin() && std::prev(at)->second >= begin)
    --at;
  while (at != ends_.end() && at->first <= end) {
    begin = std::min(begin, at->first);
    end = std::max(end, at->second);
    covered_ -= at->second - at->first;
    at = ends_.erase(at);
  }
  ends_[begin] = end;
  covered_ += end - begin;
}

uint64_t range_set::front() const {
  return ends_.empty() || ends_.begin()->first != 0 ? 0 : ends_.begin()->second;
}

bool range_set::has(byte_range range) const {
  if (range.length == 0)
    return true;
  const auto here = around(range.offset);
  return here && range.length <= here->offset + here->length - range.offset;
}

std::optional<byte_range> range_set::around(uint64_t offset) const {
  const auto next = ends_.upper_bound(offset);
  if (next == ends_.begin() || std::prev(next)->second <= offset)
    return std::nullopt;
  const auto& [begin, end] = *std::prev(next);
  return byte_range{begin, end - begin};
}

std::vector<byte_range> range_set::missing(uint64_t size, uint64_t piece) const {
  std::vector<byte_range> out;
  const auto cut = [&](uint64_t begin, uint64_t end) {
    while (begin < end) {
      const auto next = std::min(end, (begin / piece + 1) * piece);
      out.push_back({begin, next - begin});
      begin = next;
    }
  };
  uint64_t at = 0;
  for (const auto& [begin, end] : ends_) {
    cut(at, std::min(begin, size));
    at = std::min(end, size);
  }
  cut(at, size);
  return out;
}

} // namespace troupe::storage
