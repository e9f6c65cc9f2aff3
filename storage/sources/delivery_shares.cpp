#include "storage/sources/delivery_shares.hpp"

#include <algorithm>
#include <utility>

namespace troupe::storage {

std::optional<size_t> delivery_shares::choose(double bytes,
                                              const std::function<bool(size_t)>& may) const {
  double fastest = 1;
  for (const auto& x : members_)
    if (x.seconds > 0)
      fastest = std::max(fastest, x.bytes / x.seconds);
  std::optional<size_t> best;
  double best_seconds = 0;
  for (size_t i = 0; i < members_.size(); ++i) {
    const auto& x = members_[i];
    if (x.lost || (may && !may(i)))
      continue;
    const auto rate = x.bytes > 0 ? x.bytes / x.seconds : fastest;
    const auto seconds = (x.owed + bytes) / rate;
    // Among equals whoever gave less: nobody knows yet what it can do.
    if (!best || seconds < best_seconds ||
        (seconds == best_seconds && x.bytes < members_[*best].bytes))
      best = i, best_seconds = seconds;
  }
  return best;
}

void delivery_shares::owe(size_t member, double bytes, clock::time_point now) {
  auto& x = members_[member];
  if (x.owed <= 0)
    x.since = now;
  x.owed += bytes;
}

void delivery_shares::came(size_t member, double bytes, clock::time_point now) {
  auto& x = members_[member];
  x.owed -= bytes;
  x.bytes += bytes;
  x.seconds +=
      std::max(std::chrono::duration<double>(now - std::exchange(x.since, now)).count(), 1e-9);
}

bool delivery_shares::all_lost() const {
  return std::all_of(members_.begin(), members_.end(), [](const member& x) { return x.lost; });
}

} // namespace troupe::storage
