#include "cli/live_config.hpp"

namespace troupe::cli {

void live_config::ask(errand what) {
  {
    const std::lock_guard guard{lock_};
    errands_.push_back(std::move(what)); // as many as there are connections, at most
  }
  wakes_.wake();
}

void live_config::show(std::function<void(std::string)> then) {
  ask([then = std::move(then)](tenant_reloader& with) { then(with.show()); });
}

void live_config::put(std::string text, bool save,
                      std::function<void(gateway::config_outcome)> then) {
  ask([text = std::move(text), save, then = std::move(then)](tenant_reloader& with) {
    then(with.put(text, save));
  });
}

void live_config::serve(tenant_reloader& with) {
  std::deque<errand> asked;
  {
    const std::lock_guard guard{lock_};
    asked.swap(errands_);
  }
  for (const auto& one : asked)
    one(with);
}

} // namespace troupe::cli
