#pragma once
#include <deque>
#include <functional>
#include <mutex>

#include "cli/reload.hpp"
#include "cli/signals.hpp"

namespace troupe::cli {

/// What HTTP asks of the configuration, done by the thread that owns it.
class live_config final : public gateway::configuration {
public:
  /// `wakes` is waited on by that thread, and outlives this.
  explicit live_config(signal_watch& wakes) : wakes_{wakes} {}
  void show(std::function<void(std::string)> then) override;
  void put(std::string text, bool save, std::function<void(gateway::config_outcome)> then) override;
  /// Does what was asked so far.
  void serve(tenant_reloader& with);

private:
  using errand = std::function<void(tenant_reloader&)>;
  void ask(errand what);

  signal_watch& wakes_;
  std::mutex lock_; ///< guards what follows
  std::deque<errand> errands_;
};

} // namespace troupe::cli
