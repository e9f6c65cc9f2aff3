#pragma once
#include <algorithm>
#include <vector>

#include <caf/actor_addr.hpp>
#include <caf/actor_cast.hpp>
#include <caf/actor_control_block.hpp>

namespace troupe::actors {

/// True if both are the same actor, reached in the same way. Every connection to another node has
/// handles of its own for the actors there, which end with it, and CAF compares them by their
/// numbers alone: by `==` the news that the last connection is lost would fit the next one, too.
template <class A, class B>
bool same_handle(const A& a, const B& b) {
  return caf::actor_cast<caf::actor_control_block*>(a) ==
         caf::actor_cast<caf::actor_control_block*>(b);
}

/// Whom a short-lived actor watches, each once.
///
/// CAF keeps the memory of an actor for as long as anybody knows its address, and whoever is
/// watched knows those of its watchers until it ends itself. So an actor that comes and goes has to
/// take its leave of those that stay.
class watch_list {
public:
  template <class Self, class Handle>
  void watch(Self* self, const Handle& whom) {
    auto address = caf::actor_cast<caf::actor_addr>(whom);
    if (std::any_of(all_.begin(), all_.end(), [&](auto& x) { return same_handle(x, address); }))
      return;
    self->monitor(whom);
    all_.push_back(std::move(address));
  }

  /// It is down: whoever is sent there again is told so again.
  void forget(const caf::actor_addr& whom) {
    std::erase_if(all_, [&](const auto& x) { return same_handle(x, whom); });
  }

  template <class Self>
  void leave_all(Self* self) {
    for (const auto& one : all_)
      self->demonitor(one);
    all_.clear();
  }

private:
  std::vector<caf::actor_addr> all_;
};

} // namespace troupe::actors
