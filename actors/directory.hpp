#pragma once
#include <map>
#include <mutex>
#include <optional>

#include "actors/messages.hpp"
#include "actors/model_card.hpp"

namespace troupe::actors {

/// Where to find the actors that may be restarted. Any thread; the lock is held for a look-up.
class directory {
public:
  text_loader_actor text_loader() const {
    const std::lock_guard guard{mutex_};
    return text_loader_;
  }
  void text_loader(text_loader_actor x) {
    const std::lock_guard guard{mutex_};
    text_loader_ = std::move(x);
  }
  stager_actor stager() const {
    const std::lock_guard guard{mutex_};
    return stager_;
  }
  void stager(stager_actor x) {
    const std::lock_guard guard{mutex_};
    stager_ = std::move(x);
  }
  model_actor model(const model_id& id) const {
    const std::lock_guard guard{mutex_};
    const auto at = models_.find(id);
    return at == models_.end() ? model_actor{} : at->second;
  }
  void model(const model_id& id, model_actor x) {
    const std::lock_guard guard{mutex_};
    models_[id] = std::move(x);
  }

private:
  mutable std::mutex mutex_;
  text_loader_actor text_loader_;
  stager_actor stager_;
  std::map<model_id, model_actor> models_;
};

} // namespace troupe::actors
