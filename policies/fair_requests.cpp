#include "policies/fair_requests.hpp"

#include <algorithm>
#include <cmath>

namespace troupe::policies {

bool weights_valid(const fair_request& request, size_t levels) {
  return std::all_of(request.shares.begin(),
                     request.shares.begin() + static_cast<ptrdiff_t>(levels),
                     [](const fair_share& x) { return std::isfinite(x.weight) && x.weight > 0; });
}

uint32_t fair_requests::find(uint64_t id) const {
  return table_.find(hash(id), [&](uint32_t slot) { return entries_[slot].request.id == id; });
}

uint32_t fair_requests::add(const fair_request& request) {
  if (find(request.id) != none)
    return none;
  uint32_t slot = 0;
  if (free_.empty()) {
    slot = static_cast<uint32_t>(entries_.size());
    entries_.emplace_back();
  } else {
    slot = free_.back();
    free_.pop_back();
  }
  entries_[slot] = entry{.request = request};
  table_.insert(hash(request.id), slot);
  return slot;
}

void fair_requests::erase(uint32_t slot) {
  table_.erase(hash(entries_[slot].request.id), slot);
  free_.push_back(slot);
}

void fair_requests::append(line& to, uint32_t slot) {
  auto& x = entries_[slot];
  x.previous = to.last;
  x.next = none;
  (to.empty() ? to.first : entries_[to.last].next) = slot;
  to.last = slot;
}

void fair_requests::unlink(line& from, uint32_t slot) {
  const auto& x = entries_[slot];
  (x.previous == none ? from.first : entries_[x.previous].next) = x.next;
  (x.next == none ? from.last : entries_[x.next].previous) = x.previous;
}

} // namespace troupe::policies
