#include "policies/quota.hpp"

#include <algorithm>

namespace troupe::policies {

std::string_view name_of(quota_kind kind) {
  static constexpr std::string_view names[quota_kinds] = {
      "rpm",         "tpm",  "concurrency",         "budget", "max_tokens", "queue",
      "warm_models", "vram", "cold_starts_per_hour"};
  return names[static_cast<size_t>(kind)];
}

uint64_t sliding_window::used(instant now) const {
  uint64_t old = 0;
  for (const auto& x : entries_) {
    if (now < x.at + span_)
      break;
    old += x.amount;
  }
  return total_ - old;
}

uint64_t sliding_window::left(instant now) const {
  const auto taken = used(now);
  return taken < limit_ ? limit_ - taken : 0;
}

std::optional<duration> sliding_window::wait(uint64_t amount, instant now) const {
  if (fits(amount, now))
    return duration{0};
  if (amount > limit_)
    return std::nullopt;
  auto taken = used(now);
  for (const auto& x : entries_) {
    if (now >= x.at + span_)
      continue;
    taken -= x.amount;
    if (taken + amount <= limit_)
      return x.at + span_ - now;
  }
  return duration{0};
}

duration sliding_window::reset(instant now) const {
  // Entries that were corrected to nothing hold nothing.
  const auto last =
      std::find_if(entries_.rbegin(), entries_.rend(), [](const entry& x) { return x.amount > 0; });
  return last == entries_.rend() || now >= last->at + span_ ? duration{0} : last->at + span_ - now;
}

void sliding_window::forget(instant now) {
  while (!entries_.empty() && now >= entries_.front().at + span_) {
    total_ -= entries_.front().amount;
    entries_.pop_front();
    ++first_;
  }
}

uint64_t sliding_window::add(uint64_t amount, instant now) {
  forget(now);
  if (entries_.empty() || entries_.back().at != now)
    entries_.push_back({now, 0});
  entries_.back().amount += amount;
  total_ += amount;
  return first_ + entries_.size() - 1;
}

void sliding_window::correct(uint64_t number, uint64_t before, uint64_t after, instant now) {
  forget(now);
  if (number < first_ || number >= first_ + entries_.size())
    return;
  auto& x = entries_[number - first_];
  x.amount += after;
  x.amount -= std::min(x.amount, before);
  total_ += after;
  total_ -= std::min(total_, before);
}

quota::quota(quota_limits limits)
    : limits_{limits}, requests_{limits.rpm, std::chrono::minutes{1}}, tokens_{limits.tpm,
                                                                               std::chrono::minutes{
                                                                                   1}} {}

void quota::set_limits(quota_limits limits) {
  limits_ = limits;
  requests_.set_limit(limits.rpm);
  tokens_.set_limit(limits.tpm);
}

std::optional<quota_refusal> quota::begin(instant now) {
  if (limits_.concurrency > 0 && running_ >= limits_.concurrency)
    return quota_refusal{quota_kind::concurrency, place_wait};
  if (!requests_.fits(1, now))
    return quota_refusal{quota_kind::requests, requests_.wait(1, now).value_or(place_wait)};
  // A tenant whose tokens are all taken need not have its prompt read.
  if (!tokens_.fits(1, now))
    return quota_refusal{quota_kind::tokens, tokens_.wait(1, now).value_or(place_wait)};
  if (requests_.limited())
    requests_.add(1, now);
  ++running_;
  return std::nullopt;
}

void quota::end() { running_ -= running_ > 0; }

std::optional<quota_refusal> quota::reserve(uint64_t tokens, instant now, reservation& out) {
  if (!tokens_.limited())
    return std::nullopt;
  if (!tokens_.fits(tokens, now)) {
    const auto wait = tokens_.wait(tokens, now);
    return quota_refusal{quota_kind::tokens, wait.value_or(duration{0}), wait.has_value()};
  }
  out = {tokens_.add(tokens, now), tokens};
  return std::nullopt;
}

void quota::settle(const reservation& what, uint64_t tokens, instant now) {
  if (what.tokens > 0)
    tokens_.correct(what.entry, what.tokens, tokens, now);
}

} // namespace troupe::policies
