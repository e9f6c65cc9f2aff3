#include "policies/restart_budget.hpp"

#include <algorithm>

namespace troupe::policies {

std::optional<duration> restart_budget::on_crash(instant now) {
  while (!crashes_.empty() && now - crashes_.front() >= config_.window)
    crashes_.pop_front();
  if (crashes_.size() >= config_.crashes_max)
    return std::nullopt;
  auto delay = config_.delay_first;
  for (size_t i = 0; i < crashes_.size() && delay < config_.delay_max; ++i)
    delay *= 2;
  crashes_.push_back(now);
  return std::min(delay, config_.delay_max);
}

} // namespace troupe::policies
