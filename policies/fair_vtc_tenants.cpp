// Who is remembered, and what other schedulers say.
#include <algorithm>

#include "policies/fair_vtc.hpp"

namespace troupe::policies {

uint32_t virtual_token_counter::find(uint32_t group, uint64_t id) const {
  return table_.find(hash(group, id), [&](uint32_t slot) {
    return nodes_[slot].id == id && nodes_[slot].group == group;
  });
}

uint32_t virtual_token_counter::add_node(uint32_t group, uint64_t id, bool leaf) {
  uint32_t slot = 0;
  if (free_nodes_.empty()) {
    slot = static_cast<uint32_t>(nodes_.size());
    nodes_.emplace_back();
    places_.push_back(indexed_heap::absent);
  } else {
    slot = free_nodes_.back();
    free_nodes_.pop_back();
  }
  uint32_t members = none;
  if (!leaf && free_groups_.empty()) {
    members = static_cast<uint32_t>(groups_.size());
    groups_.emplace_back();
  } else if (!leaf) {
    members = free_groups_.back();
    free_groups_.pop_back();
    groups_[members] = {};
  }
  if (members != none)
    groups_[members].parent = slot;
  nodes_[slot] = node{.id = id, .group = group, .members = members, .line = {}};
  if (config_.lift)
    nodes_[slot].counter = std::max(lift_level(groups_[group]), groups_[group].entry);
  table_.insert(hash(group, id), slot);
  return slot;
}

uint32_t virtual_token_counter::find_or_add(uint32_t group, uint64_t id, bool leaf) {
  const auto found = find(group, id);
  return found != none ? found : add_node(group, id, leaf);
}

uint32_t virtual_token_counter::leaf_of(const fair_request& request) {
  auto group = static_cast<uint32_t>(request.priority);
  for (uint32_t level = 0;; ++level) {
    const bool leaf = level + 1 == config_.levels;
    const auto at = find_or_add(group, request.shares[level].id, leaf);
    if (leaf)
      return at;
    group = nodes_[at].members;
  }
}

/// `which` and those above it may have nothing left that waits or runs.
void virtual_token_counter::rest(uint32_t which) {
  while (which != none && config_.lift) {
    auto& x = nodes_[which];
    if (x.waiting > 0 || x.running > 0)
      return;
    auto& siblings = groups_[x.group];
    const auto above = siblings.parent;
    raise_level(siblings);
    if (x.counter <= siblings.level) {
      drop(which);
    } else {
      siblings.idle.push(x.counter, which, places_);
      if (siblings.idle.size() > config_.idle_max) {
        // Newcomers start from its debt, so that nobody gains by this.
        siblings.entry = std::max(siblings.entry, siblings.idle.top_key());
        drop(siblings.idle.top());
      }
    }
    which = above;
  }
}

/// Forgets an idle tenant and its idle members.
void virtual_token_counter::drop(uint32_t which) {
  auto& x = nodes_[which];
  auto& siblings = groups_[x.group];
  if (places_[which] != indexed_heap::absent)
    siblings.idle.erase(which, places_);
  table_.erase(hash(x.group, x.id), which);
  if (siblings.last == which)
    siblings.last = none; // the level has taken its counter over
  if (x.members != none) {
    while (!groups_[x.members].idle.empty())
      drop(groups_[x.members].idle.top());
    free_groups_.push_back(x.members);
  }
  x.group = none;
  free_nodes_.push_back(which);
}

/// Debts below the level make no difference any more.
void virtual_token_counter::forget_paid(group& x) {
  while (!x.idle.empty() && x.idle.top_key() <= x.level)
    drop(x.idle.top());
}

std::optional<double> virtual_token_counter::counter(fair_priority priority,
                                                     std::span<const uint64_t> path) const {
  auto group = static_cast<uint32_t>(priority);
  for (size_t level = 0; level < path.size(); ++level) {
    const auto at = group == none ? none : find(group, path[level]);
    if (at == none)
      return std::nullopt;
    if (level + 1 == path.size())
      return nodes_[at].counter;
    group = nodes_[at].members;
  }
  return std::nullopt;
}

void virtual_token_counter::served_elsewhere(fair_priority priority, uint64_t organisation,
                                             double service, double debt_max) {
  const auto at = find(static_cast<uint32_t>(priority), organisation);
  if (at == none)
    return; // it starts from the level when it comes
  const auto& siblings = groups_[index(priority)];
  const auto& x = nodes_[at];
  const auto most = lift_level(siblings) + x.prepaid + debt_max;
  raise(priority, organisation,
        std::min(x.counter + service, std::max(most, x.counter)) - x.prepaid);
}

void virtual_token_counter::raise(fair_priority priority, uint64_t organisation, double level) {
  const auto group = static_cast<uint32_t>(priority);
  auto at = find(group, organisation);
  if (at == none) {
    if (level <= lift_level(groups_[group]))
      return;
    at = add_node(group, organisation, config_.levels == 1);
  }
  auto& x = nodes_[at];
  auto& siblings = groups_[group];
  const auto counter = std::max(x.counter, level + x.prepaid);
  if (places_[at] != indexed_heap::absent && x.waiting == 0)
    siblings.idle.erase(at, places_);
  if (x.waiting > 0) {
    add(at, counter - x.counter, 0);
  } else {
    x.counter = counter;
    rest(at);
  }
}

void virtual_token_counter::raise_entry(fair_priority priority, double level) {
  auto& x = groups_[index(priority)];
  x.entry = std::max(x.entry, level);
}

std::optional<double> virtual_token_counter::floor(fair_priority priority) const {
  const auto& turns = groups_[index(priority)].turns;
  return turns.empty() ? std::nullopt : std::optional{turns.top_key()};
}

std::optional<double> virtual_token_counter::level(fair_priority priority,
                                                   uint64_t organisation) const {
  const auto at = find(static_cast<uint32_t>(priority), organisation);
  return at == none ? std::nullopt : std::optional{nodes_[at].counter - nodes_[at].prepaid};
}

std::vector<std::pair<uint64_t, double>>
virtual_token_counter::levels(fair_priority priority) const {
  std::vector<std::pair<uint64_t, double>> out;
  for (const auto& x : nodes_)
    if (x.group == static_cast<uint32_t>(priority))
      out.emplace_back(x.id, x.counter - x.prepaid);
  return out;
}

} // namespace troupe::policies
