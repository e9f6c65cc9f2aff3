#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace troupe::policies {

/// Round robin over the sorted container `entries`: the first entry behind the key `last`, past the
/// end on from the beginning, that is `ready`; `entries.end()` if none is. Every ready entry gets
/// its turn before any gets a second one.
template <class Map, class Key, class Ready>
typename Map::iterator next_in_turn(Map& entries, const Key& last, Ready ready) {
  auto at = entries.upper_bound(last);
  for (size_t seen = 0; seen < entries.size(); ++seen, ++at) {
    if (at == entries.end())
      at = entries.begin();
    if (ready(*at))
      return at;
  }
  return entries.end();
}

/// Which of the things with these times of last use have to go so that `kept_max` stay: indices,
/// those used longest ago, of equal times the later ones.
std::vector<size_t> beyond_recent(std::span<const int64_t> last_used, size_t kept_max);

} // namespace troupe::policies
