#include "policies/turns.hpp"

#include <algorithm>
#include <numeric>

namespace troupe::policies {

std::vector<size_t> beyond_recent(std::span<const int64_t> last_used, size_t kept_max) {
  if (last_used.size() <= kept_max)
    return {};
  std::vector<size_t> order(last_used.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return last_used[a] > last_used[b]; });
  order.erase(order.begin(), order.begin() + static_cast<ptrdiff_t>(kept_max));
  return order;
}

} // namespace troupe::policies
