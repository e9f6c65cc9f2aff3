#include "policies/fair_vtc.hpp"

#include <algorithm>
#include <cmath>

namespace troupe::policies {

virtual_token_counter::virtual_token_counter(vtc_config config)
    : config_{config}, groups_(fair_priorities) {}

fair_arrival virtual_token_counter::arrive(const fair_request& request, instant) {
  if (!weights_valid(request, config_.levels))
    return fair_arrival::bad_weight;
  table_.prefetch(hash(static_cast<uint32_t>(index(request.priority)), request.shares[0].id));
  const auto slot = requests_.add(request);
  if (slot == fair_requests::none)
    return fair_arrival::duplicate;
  const auto leaf = leaf_of(request);
  requests_.at(slot).tenant = leaf;
  requests_.append(nodes_[leaf].line, slot);
  join(leaf);
  ++waiting_;
  return fair_arrival::queued;
}

size_t virtual_token_counter::next_class() const {
  size_t best = fair_priorities;
  for (size_t i = 0; i < fair_priorities; ++i) {
    if (groups_[i].turns.empty())
      continue;
    if (best == fair_priorities)
      best = i;
    else if (config_.passed_over_max > 0 && passed_over_[i] >= config_.passed_over_max)
      return i;
  }
  return best;
}

uint32_t virtual_token_counter::next_slot() const {
  const auto first = next_class();
  if (first == fair_priorities)
    return none;
  for (auto group = static_cast<uint32_t>(first);;) {
    const auto& x = nodes_[groups_[group].turns.top()];
    if (x.members == none)
      return x.line.first;
    group = x.members;
  }
}

const fair_request* virtual_token_counter::next() {
  const auto slot = next_slot();
  return slot == none ? nullptr : &requests_.at(slot).request;
}

std::optional<fair_request> virtual_token_counter::take() {
  const auto slot = next_slot();
  return slot == none ? std::nullopt : std::optional{take_slot(slot)};
}

std::optional<fair_request> virtual_token_counter::take_out_of_turn(uint64_t id) {
  const auto slot = requests_.find(id);
  return slot == none || requests_.at(slot).running ? std::nullopt : std::optional{take_slot(slot)};
}

fair_request virtual_token_counter::take_slot(uint32_t slot) {
  auto& x = requests_.at(slot);
  const auto leaf = x.tenant;
  for (size_t i = 0; i < fair_priorities; ++i) // whoever waits in a lower class was passed over
    passed_over_[i] =
        i == index(x.request.priority) || groups_[i].turns.empty() ? 0 : passed_over_[i] + 1;
  requests_.unlink(nodes_[leaf].line, slot);
  x.running = true;
  --waiting_;
  const auto expected =
      x.request.predicted_output.value_or(config_.predict ? std::lround(nodes_[leaf].expected) : 0);
  x.predicted = std::min<uint64_t>(expected, x.request.output_max);
  const auto input = config_.cost.admission(x.request.input_tokens, x.request.cached_tokens);
  const auto ahead = config_.cost.decoding(x.request.input_tokens, 0, x.predicted);
  // It must count as running before it may stop waiting: who does neither is forgotten.
  for (auto at = leaf; at != none; at = groups_[nodes_[at].group].parent)
    ++nodes_[at].running;
  leave(leaf);
  charge_path(x, input + ahead, ahead, input);
  look_ahead(false);
  return x.request;
}

/// Has the organisation whose turn comes next brought near, or, once it is, its first request: with
/// many tenants, waiting for memory is most of what a decision takes.
void virtual_token_counter::look_ahead(bool is_near) const {
  const auto first = next_class();
  if (first == fair_priorities)
    return;
  const auto& next = nodes_[groups_[first].turns.top()];
  if (!is_near)
    __builtin_prefetch(&next);
  else if (next.line.first != none)
    requests_.prefetch(next.line.first);
}

bool virtual_token_counter::remove(uint64_t id) {
  const auto slot = requests_.find(id);
  if (slot == fair_requests::none || requests_.at(slot).running)
    return false;
  const auto leaf = requests_.at(slot).tenant;
  requests_.unlink(nodes_[leaf].line, slot);
  requests_.erase(slot);
  --waiting_;
  leave(leaf);
  rest(leaf);
  return true;
}

void virtual_token_counter::charge(uint64_t id, uint32_t tokens) {
  const auto slot = requests_.find(id);
  if (slot == fair_requests::none || !requests_.at(slot).running || tokens == 0)
    return;
  auto& x = requests_.at(slot);
  const auto from = x.output, to = from + tokens, paid = x.predicted;
  x.output = to;
  const auto& cost = config_.cost;
  const auto in = x.request.input_tokens;
  const auto ahead = cost.decoding(in, std::min(from, paid), std::min(to, paid));
  const auto beyond = cost.decoding(in, std::max(from, paid), std::max(to, paid));
  charge_path(x, beyond, -ahead, ahead + beyond);
}

void virtual_token_counter::found_cached(uint64_t id, uint32_t cached_tokens) {
  const auto slot = requests_.find(id);
  if (slot == none || !requests_.at(slot).running)
    return;
  auto& x = requests_.at(slot);
  const auto in = x.request.input_tokens;
  const auto less = config_.cost.admission(in, x.request.cached_tokens) -
                    config_.cost.admission(in, cached_tokens);
  if (less <= 0)
    return;
  x.request.cached_tokens = cached_tokens;
  charge_path(x, -less, 0, -less);
}

void virtual_token_counter::finish(uint64_t id) {
  const auto slot = requests_.find(id);
  if (slot == fair_requests::none || !requests_.at(slot).running)
    return;
  auto& x = requests_.at(slot);
  const auto leaf = x.tenant;
  auto& expected = nodes_[leaf].expected;
  expected = (4 * expected + static_cast<double>(x.output)) / 5;
  if (x.predicted > x.output) {
    const auto refund = config_.cost.decoding(x.request.input_tokens, x.output, x.predicted);
    charge_path(x, -refund, -refund, 0);
  }
  requests_.erase(slot);
  look_ahead(true); // its place is free for the next one now
  for (auto at = leaf; at != none; at = groups_[nodes_[at].group].parent)
    if (--nodes_[at].running == 0)
      nodes_[at].prepaid = 0; // but for what rounding leaves over, it is
  rest(leaf);
}

void virtual_token_counter::charge_path(const fair_requests::entry& x, double charged,
                                        double prepaid, double service) {
  auto at = x.tenant;
  for (auto level = config_.levels; level-- > 0; at = groups_[nodes_[at].group].parent) {
    const auto weight = x.request.shares[level].weight;
    add(at, charged / weight, prepaid / weight);
    if (level == 0 && listener_ && service != 0)
      listener_(x.request.priority, nodes_[at].id, service / weight);
  }
}

/// The greatest floor so far: no member that waits is below it, prepaid tokens apart.
double virtual_token_counter::lift_level(const group& x) const {
  if (!x.turns.empty())
    return std::max(x.level, x.turns.top_key());
  if (x.last != none)
    return std::max(x.level, nodes_[x.last].counter - nodes_[x.last].prepaid);
  return x.level;
}

void virtual_token_counter::raise_level(group& x) {
  if (!config_.lift)
    return;
  x.level = lift_level(x);
  forget_paid(x);
}

/// One more request waits below `which`; members that begin to wait are lifted and get a turn.
void virtual_token_counter::join(uint32_t which) {
  for (auto at = which; at != none;) {
    auto& x = nodes_[at];
    const auto parent = groups_[x.group].parent;
    if (x.waiting++ == 0) {
      auto& siblings = groups_[x.group];
      if (places_[at] != indexed_heap::absent)
        siblings.idle.erase(at, places_);
      raise_level(siblings);
      if (config_.lift)
        x.counter = std::max(x.counter, siblings.level + x.prepaid);
      siblings.turns.push(x.counter, at, places_);
    }
    at = parent;
  }
}

/// One request fewer waits below `which`.
void virtual_token_counter::leave(uint32_t which) {
  for (auto at = which; at != none; at = groups_[nodes_[at].group].parent) {
    auto& x = nodes_[at];
    auto& siblings = groups_[x.group];
    if (--x.waiting > 0)
      continue;
    raise_level(siblings);
    siblings.turns.erase(at, places_);
    siblings.last = at;
  }
}

void virtual_token_counter::add(uint32_t which, double charged, double prepaid) {
  auto& x = nodes_[which];
  auto& siblings = groups_[x.group];
  x.prepaid += prepaid;
  if (charged == 0)
    return;
  x.counter += charged;
  if (x.waiting == 0)
    return;
  if (config_.lift && charged < 0) // the floor may be about to fall: remember it
    raise_level(siblings);
  siblings.turns.update(x.counter, which, places_);
  if (charged > 0)
    raise_level(siblings);
}

} // namespace troupe::policies
