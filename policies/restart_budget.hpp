#pragma once
#include <deque>
#include <optional>

#include "base/instant.hpp"

namespace troupe::policies {

struct restart_budget_config {
  uint32_t crashes_max = 5; ///< tolerated within `window`
  duration window = std::chrono::seconds{60};
  duration delay_first = std::chrono::milliseconds{10};
  duration delay_max = std::chrono::seconds{5};
};

/// Decides whether a crashed actor is started again, and after what pause. The pause doubles with
/// every crash inside the window.
class restart_budget {
public:
  explicit restart_budget(restart_budget_config config = {}) : config_{config} {}
  /// The pause before the restart; nothing when the budget is spent.
  std::optional<duration> on_crash(instant now);

private:
  restart_budget_config config_;
  std::deque<instant> crashes_; // at most crashes_max
};

} // namespace troupe::policies
