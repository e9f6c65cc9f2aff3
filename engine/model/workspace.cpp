#include "engine/model/workspace.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "engine/errors.hpp"
#include "gpu/errors.hpp"

namespace troupe::engine {

/// What lies there is kept elsewhere by whoever needs it.
void workspace::clear() {
  if (auto* last = std::exchange(last_, nullptr))
    last->put_aside();
}

/// Makes it as large as the largest member needs.
caf::error workspace::resize() {
  uint64_t wanted = 0;
  for (const auto& one : members_)
    wanted = std::max(wanted, one.size_bytes);
  if (wanted == memory_.size_bytes())
    return {};
  clear();
  for (const auto& one : members_)
    one.who->moves();
  device_.lend_scratch(nullptr, 0); // which lies there
  memory_ = {};                     // first: there need not be room for both
  if (wanted == 0)
    return {};
  auto memory = device_.allocate(wanted);
  if (!memory && memory.error() != gpu::errc::out_of_memory)
    return memory.error();
  if (!memory)
    return caf::make_error(errc::out_of_memory,
                           "allocating a workspace of " + std::to_string(wanted) + " bytes on " +
                               device_.name() + ": " + describe(memory.error()));
  memory_ = std::move(*memory);
  return {};
}

caf::error workspace::join(workspace_user& who, uint64_t size_bytes) {
  members_.push_back({&who, size_bytes});
  auto why = resize();
  if (why)
    leave(who);
  return why;
}

void workspace::leave(workspace_user& who) {
  if (last_ == &who)
    last_ = nullptr;
  std::erase_if(members_, [&](const member& one) { return one.who == &who; });
  // If the others cannot have the smaller one now, the next of them to take it tries again.
  static_cast<void>(resize());
}

caf::expected<std::byte*> workspace::take(workspace_user& who) {
  if (last_ != &who) {
    if (auto why = resize())
      return why;
    clear();
    last_ = &who;
  }
  return memory_.as<std::byte>();
}

} // namespace troupe::engine
