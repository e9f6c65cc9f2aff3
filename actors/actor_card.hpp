#pragma once
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "actors/services.hpp"

namespace troupe::actors {

/// The id of an actor's parent, null for a root.
using parent_id = std::shared_ptr<std::atomic<uint64_t>>;

/// What an actor shows of itself to the inspector. The actor writes, the registry reads.
class actor_card {
public:
  actor_card(std::string type, std::string name, parent_id parent = nullptr)
      : type_{std::move(type)}, name_{std::move(name)}, parent_{std::move(parent)} {}

  /// One more message handled.
  void handled() { messages_.fetch_add(1, std::memory_order_relaxed); }
  void restarted() { restarts_.fetch_add(1, std::memory_order_relaxed); }
  void show(std::string state, std::string detail = {}) {
    const std::lock_guard guard{mutex_};
    state_ = std::move(state);
    detail_ = std::move(detail);
  }
  actor_info info(uint64_t id, const std::string& node) const {
    const std::lock_guard guard{mutex_};
    const std::chrono::duration<double> age = std::chrono::steady_clock::now() - born_;
    return {id,     name_,     type_,     node,        parent_ ? parent_->load() : 0,
            state_, messages_, restarts_, age.count(), detail_};
  }

private:
  const std::string type_, name_;
  const parent_id parent_;
  const std::chrono::steady_clock::time_point born_ = std::chrono::steady_clock::now();
  std::atomic<uint64_t> messages_{0}, restarts_{0};
  mutable std::mutex mutex_; // held for the copy of two short strings
  std::string state_ = "running", detail_;
};
using actor_card_ptr = std::shared_ptr<actor_card>;

} // namespace troupe::actors
