#include "engine/model/weight_twins.hpp"

#include <atomic>
#include <utility>

#include "engine/model/weights.hpp"

namespace troupe::engine {

struct weight_twins::entry {
  const model_weights* weights = nullptr;
  twin_name name;
  gpu::memory_home home;
  std::shared_ptr<const void> keep_alive;
  std::function<void()> returned;
  // Under the mutex:
  size_t loans = 0;
  size_t users = 0; ///< loans, and those that still tell that they are gone
  std::atomic<bool> is_called_back{false};
};

weight_twins::offer::offer(std::shared_ptr<weight_twins> to, std::shared_ptr<entry> what)
    : to_{std::move(to)}, what_{std::move(what)} {}

weight_twins::offer::~offer() {
  what_->is_called_back = true;
  std::unique_lock guard{to_->mutex_};
  to_->offered_.remove(what_);
  to_->returned_.wait(guard, [&] { return what_->users == 0; });
}

bool weight_twins::offer::is_lent() const {
  const std::lock_guard guard{to_->mutex_};
  return what_->loans > 0;
}

weight_twins::loan::loan(std::shared_ptr<weight_twins> from, std::shared_ptr<entry> what)
    : from_{std::move(from)}, what_{std::move(what)} {}

weight_twins::loan::~loan() {
  bool is_last = false;
  {
    const std::lock_guard guard{from_->mutex_};
    is_last = --what_->loans == 0;
  }
  if (is_last && what_->returned)
    what_->returned();
  {
    const std::lock_guard guard{from_->mutex_};
    --what_->users;
  }
  from_->returned_.notify_all();
}

const model_weights& weight_twins::loan::weights() const { return *what_->weights; }
const gpu::memory_home& weight_twins::loan::home() const { return what_->home; }
const std::shared_ptr<const void>& weight_twins::loan::keep_alive() const {
  return what_->keep_alive;
}
bool weight_twins::loan::is_called_back() const { return what_->is_called_back; }

std::unique_ptr<weight_twins::offer> weight_twins::put(const model_weights& weights, twin_name name,
                                                       gpu::memory_home home,
                                                       std::shared_ptr<const void> keep_alive,
                                                       std::function<void()> returned) {
  auto made = std::make_shared<entry>();
  made->weights = &weights;
  made->name = std::move(name);
  made->home = std::move(home);
  made->keep_alive = std::move(keep_alive);
  made->returned = std::move(returned);
  auto out = std::make_unique<offer>(shared_from_this(), made);
  const std::lock_guard guard{mutex_};
  offered_.push_back(std::move(made));
  return out;
}

/// With the mutex held. Weights that all lie in place come from there again.
std::shared_ptr<weight_twins::entry> weight_twins::find(const twin_name& name,
                                                        const gpu::memory_home& to) const {
  std::shared_ptr<entry> out;
  for (const auto& one : offered_)
    if (one->name == name && to.takes_from(one->home) && one->weights->are_there() &&
        one->weights->own_bytes() > 0 && (!out || one->loans < out->loans))
      out = one;
  return out;
}

std::shared_ptr<const weight_twins::loan> weight_twins::lend(const twin_name& name,
                                                             const gpu::memory_home& to) {
  const std::lock_guard guard{mutex_};
  auto found = find(name, to);
  if (!found)
    return nullptr;
  auto out = std::make_shared<const loan>(shared_from_this(), found);
  ++found->loans;
  ++found->users;
  return out;
}

std::optional<uint64_t> weight_twins::bytes_to_copy(const twin_name& name,
                                                    const gpu::memory_home& to) const {
  const std::lock_guard guard{mutex_};
  const auto found = find(name, to);
  return found ? std::optional{found->weights->own_bytes()} : std::nullopt;
}

} // namespace troupe::engine
