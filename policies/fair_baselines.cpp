#include "policies/fair_baselines.hpp"

#include <charconv>
#include <cmath>

#include "policies/fair_vtc.hpp"

namespace troupe::policies {

void fcfs_queue::forget_old(instant now) {
  while (!recent_.empty() && recent_.front().first <= now - std::chrono::minutes{1}) {
    const auto at = accepted_.find(recent_.front().second);
    if (--at->second == 0)
      accepted_.erase(at);
    recent_.pop_front();
  }
}

fair_arrival fcfs_queue::arrive(const fair_request& request, instant now) {
  if (!weights_valid(request, 1))
    return fair_arrival::bad_weight;
  if (requests_.find(request.id) != fair_requests::none)
    return fair_arrival::duplicate;
  if (arrivals_max_) {
    forget_old(now);
    auto& count = accepted_[request.shares[0].id];
    if (count >= *arrivals_max_)
      return fair_arrival::limited;
    ++count;
    recent_.emplace_back(now, request.shares[0].id);
  }
  requests_.append(line_, requests_.add(request));
  ++waiting_;
  return fair_arrival::queued;
}

const fair_request* fcfs_queue::next() {
  return line_.empty() ? nullptr : &requests_.at(line_.first).request;
}

std::optional<fair_request> fcfs_queue::take() {
  if (line_.empty())
    return std::nullopt;
  const auto slot = line_.first;
  requests_.unlink(line_, slot);
  requests_.at(slot).running = true;
  --waiting_;
  return requests_.at(slot).request;
}

bool fcfs_queue::remove(uint64_t id) {
  const auto slot = requests_.find(id);
  if (slot == fair_requests::none || requests_.at(slot).running)
    return false;
  requests_.unlink(line_, slot);
  requests_.erase(slot);
  --waiting_;
  return true;
}

void fcfs_queue::finish(uint64_t id) {
  const auto slot = requests_.find(id);
  if (slot != fair_requests::none && requests_.at(slot).running)
    requests_.erase(slot);
}

fair_arrival deficit_round_robin::arrive(const fair_request& request, instant) {
  if (!weights_valid(request, 1))
    return fair_arrival::bad_weight;
  const auto slot = requests_.add(request);
  if (slot == fair_requests::none)
    return fair_arrival::duplicate;
  const auto& [id, weight] = request.shares[0];
  auto& x = tenants_[id];
  x.id = id;
  x.weight = weight;
  if (x.line.empty())
    x.turn = turns_.insert(turns_.end(), id);
  requests_.append(x.line, slot);
  ++waiting_;
  return fair_arrival::queued;
}

const fair_request* deficit_round_robin::next() {
  if (turns_.empty())
    return nullptr;
  // Rounds in which everybody only pays debt off are done at once.
  double rounds = INFINITY;
  for (const auto id : turns_) {
    const auto& x = tenants_.at(id);
    const auto missing = std::floor(-x.deficit / (quantum_ * x.weight));
    rounds = std::min(rounds, x.deficit > 0 ? 0 : missing);
  }
  for (const auto id : turns_)
    if (auto& x = tenants_.at(id); x.deficit <= 0)
      x.deficit += rounds * quantum_ * x.weight;
  for (;;) {
    auto& x = tenants_.at(turns_.front());
    if (x.deficit > 0)
      return &requests_.at(x.line.first).request;
    x.deficit += quantum_ * x.weight;
    turns_.splice(turns_.end(), turns_, turns_.begin());
  }
}

std::optional<fair_request> deficit_round_robin::take() {
  const auto* chosen = next();
  if (!chosen)
    return std::nullopt;
  const auto slot = requests_.find(chosen->id);
  auto& x = owner(slot);
  const auto request = *chosen;
  x.deficit -= cost_.admission(request.input_tokens, request.cached_tokens);
  requests_.at(slot).running = true;
  ++x.running;
  unlink(x, slot);
  return request;
}

bool deficit_round_robin::remove(uint64_t id) {
  const auto slot = requests_.find(id);
  if (slot == fair_requests::none || requests_.at(slot).running)
    return false;
  auto& x = owner(slot);
  unlink(x, slot);
  requests_.erase(slot);
  forget(x);
  return true;
}

void deficit_round_robin::charge(uint64_t id, uint32_t tokens) {
  const auto slot = requests_.find(id);
  if (slot == fair_requests::none || !requests_.at(slot).running)
    return;
  auto& x = requests_.at(slot);
  owner(slot).deficit -= cost_.decoding(x.request.input_tokens, x.output, x.output + tokens);
  x.output += tokens;
}

void deficit_round_robin::finish(uint64_t id) {
  const auto slot = requests_.find(id);
  if (slot == fair_requests::none || !requests_.at(slot).running)
    return;
  auto& x = owner(slot);
  requests_.erase(slot);
  --x.running;
  forget(x);
}

void deficit_round_robin::unlink(tenant& from, uint32_t slot) {
  requests_.unlink(from.line, slot);
  --waiting_;
  if (from.line.empty())
    turns_.erase(from.turn);
}

/// Whoever owes nothing may be forgotten: it would only lose what is left of its quantum.
void deficit_round_robin::forget(const tenant& x) {
  if (x.line.empty() && x.running == 0 && x.deficit >= 0)
    tenants_.erase(x.id);
}

std::unique_ptr<fair_queue> make_fair_queue(std::string_view name, const fair_cost& cost,
                                            uint64_t pool_tokens) {
  const auto number = [&](std::string_view prefix) -> std::optional<uint32_t> {
    uint32_t value = 0;
    const auto* end = name.data() + name.size();
    if (!name.starts_with(prefix))
      return std::nullopt;
    const auto [stop, why] = std::from_chars(name.data() + prefix.size(), end, value);
    return why == std::errc{} && stop == end && value > 0 ? std::optional{value} : std::nullopt;
  };
  if (name == "fcfs")
    return std::make_unique<fcfs_queue>();
  if (const auto limit = number("rpm-"))
    return std::make_unique<fcfs_queue>(limit);
  if (name == "vtc" || name == "vtc-predict" || name == "lcf")
    return std::make_unique<virtual_token_counter>(
        vtc_config{.cost = cost, .lift = name != "lcf", .predict = name == "vtc-predict"});
  if (name == "drr")
    return std::make_unique<deficit_round_robin>(cost, static_cast<double>(pool_tokens) / 20);
  if (const auto quantum = number("drr-"))
    return std::make_unique<deficit_round_robin>(cost, *quantum);
  return nullptr;
}

} // namespace troupe::policies
