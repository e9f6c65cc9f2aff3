#include "policies/fair_order.hpp"

#include <algorithm>
#include <utility>

namespace troupe::policies {

fair_order::fair_order(const vtc_config& config)
    : cost_{config.cost}, ledger_{
                              std::make_unique<ledger>(ledger{virtual_token_counter{config}, {}})} {
  auto* to = &ledger_->services;
  ledger_->counter.on_service([to](fair_priority priority, uint64_t tenant, double amount) {
    if (!to->empty() && to->back().tenant == tenant && to->back().priority == priority)
      to->back().amount += amount;
    else
      to->push_back({priority, tenant, amount});
  });
}

void fair_order::push(const waiting_sequence& sequence) {
  finish(sequence.id);
  erase(sequence.id);
  auto& x = entries_[sequence.id];
  x = {sequence, ++last_ticket_, false};
  fair_request request{.id = x.ticket};
  request.shares[0] = sequence.tenant;
  request.priority = sequence.priority;
  request.input_tokens = sequence.resumed ? 0 : sequence.input_tokens; // paid for already
  request.cached_tokens = sequence.cached_tokens;
  request.output_max = sequence.output_max;
  if (ledger_->counter.arrive(request, sequence.accepted) == fair_arrival::bad_weight) {
    x.sequence.tenant.weight = request.shares[0].weight = 1;
    ledger_->counter.arrive(request, sequence.accepted);
  }
  by_ticket_[x.ticket] = sequence.id;
  by_time_[time_of(sequence)] = sequence.id;
  since_.insert(sequence.since);
  note_waiting(x.sequence, 1);
}

std::optional<waiting_sequence> fair_order::pop() {
  return pop([](const fair_share&) { return true; });
}

std::optional<waiting_sequence> fair_order::pop(const permission& may_take) {
  const auto ticket = next_ticket(may_take);
  return ticket ? std::optional{take(*ticket)} : std::nullopt;
}

std::optional<uint64_t> fair_order::next_ticket(const permission& may_take) {
  if (by_time_.empty())
    return std::nullopt;
  const auto& first = entries_.at(by_time_.begin()->second);
  if (first.sequence.resumed)
    return first.ticket;
  auto& counter = ledger_->counter;
  const auto* next = counter.next();
  const auto tenant = next->shares[0];
  const auto priority = next->priority;
  if (may_take(tenant))
    return next->id;
  if (waiting_of_.size() == 1)
    return std::nullopt;
  const auto counter_of = [&](uint64_t id) { return counter.counter(priority, {&id, 1}); };
  const auto least = counter_of(tenant.id);
  for (const auto& [time, id] : by_time_) {
    const auto& x = entries_.at(id);
    if (x.sequence.priority == priority && x.sequence.tenant.id != tenant.id &&
        counter_of(x.sequence.tenant.id) == least && may_take(x.sequence.tenant))
      return x.ticket;
  }
  return std::nullopt;
}

/// Takes a sequence that waits.
waiting_sequence fair_order::take(uint64_t ticket) {
  const auto taken = ledger_->counter.take_out_of_turn(ticket);
  const auto id = by_ticket_.at(ticket);
  auto& x = entries_.at(id);
  x.running = true;
  reserved_tokens_ += uint64_t{x.sequence.input_tokens} + x.sequence.output_max;
  reserved_max_ = std::max(reserved_max_, reserved_tokens_);
  by_time_.erase(time_of(x.sequence));
  since_.erase(since_.find(x.sequence.since));
  note_waiting(x.sequence, -1);
  monitor_.served(x.sequence.tenant.id, cost_.admission(taken->input_tokens, taken->cached_tokens));
  return x.sequence;
}

bool fair_order::erase(sequence_id id) {
  const auto at = entries_.find(id);
  if (at == entries_.end() || at->second.running)
    return false;
  const auto x = at->second;
  ledger_->counter.remove(x.ticket);
  by_ticket_.erase(x.ticket);
  by_time_.erase(time_of(x.sequence));
  since_.erase(since_.find(x.sequence.since));
  entries_.erase(at);
  note_waiting(x.sequence, -1);
  return true;
}

bool fair_order::contains(sequence_id id) const {
  const auto at = entries_.find(id);
  return at != entries_.end() && !at->second.running;
}

std::optional<instant> fair_order::oldest() const {
  return since_.empty() ? std::nullopt : std::optional{*since_.begin()};
}

std::vector<waiting_sequence> fair_order::list() const {
  std::vector<waiting_sequence> out;
  out.reserve(by_time_.size());
  for (const auto& [time, id] : by_time_)
    out.push_back(entries_.at(id).sequence);
  return out;
}

void fair_order::charge(sequence_id id, uint32_t tokens, uint32_t reused) {
  const auto at = entries_.find(id);
  if (at == entries_.end() || !at->second.running)
    return;
  auto& x = at->second;
  auto& counter = ledger_->counter;
  counter.charge(x.ticket, tokens);
  monitor_.served(x.sequence.tenant.id, cost_.output * tokens);
  if (reused <= x.sequence.cached_tokens || x.sequence.resumed)
    return;
  counter.found_cached(x.ticket, reused);
  monitor_.served(x.sequence.tenant.id,
                  cost_.admission(x.sequence.input_tokens, reused) -
                      cost_.admission(x.sequence.input_tokens, x.sequence.cached_tokens));
  x.sequence.cached_tokens = reused;
}

void fair_order::finish(sequence_id id) {
  const auto at = entries_.find(id);
  if (at == entries_.end() || !at->second.running)
    return;
  ledger_->counter.finish(at->second.ticket);
  reserved_tokens_ -= uint64_t{at->second.sequence.input_tokens} + at->second.sequence.output_max;
  by_ticket_.erase(at->second.ticket);
  entries_.erase(at);
}

size_t fair_order::ahead_of(const fair_share& tenant, size_t count) const {
  const auto own = waiting_of_.find(tenant.id);
  if (own == waiting_of_.end())
    return by_time_.size();
  const auto before = own->second.sequences - std::min<size_t>(count, own->second.sequences);
  const auto turns = static_cast<double>(before) / own->second.weight;
  size_t out = before;
  for (const auto& [id, other] : waiting_of_)
    if (id != tenant.id)
      out += std::min<size_t>(other.sequences, static_cast<size_t>(turns * other.weight));
  return out;
}

std::vector<fair_order::service> fair_order::take_services() {
  return std::exchange(ledger_->services, {});
}

void fair_order::served_elsewhere(const service& x, double debt_max) {
  if (waiting_of_.contains(x.tenant))
    ledger_->counter.served_elsewhere(x.priority, x.tenant, x.amount, debt_max);
}

void fair_order::note_waiting(const waiting_sequence& x, int change) {
  auto& [count, weight] = waiting_of_[x.tenant.id];
  count += static_cast<uint32_t>(change);
  weight = x.tenant.weight;
  if (count == 0) {
    waiting_of_.erase(x.tenant.id);
    monitor_.left(x.tenant.id);
  } else if (count == 1 && change > 0) {
    monitor_.waits(x.tenant.id, x.tenant.weight, x.tenant_name);
  }
}

/// Running sequences never held more than this, so U needs no knowledge of the engine's pool.
double fair_order::largest_charge() const {
  fair_limits limits{.pool_tokens = reserved_max_, .input_max = reserved_max_};
  return charge_after_admission_max(cost_, limits);
}

} // namespace troupe::policies
