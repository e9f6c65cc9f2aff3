#include "actors/tenants.hpp"

#include <algorithm>
#include <numeric>

#include "actors/log.hpp"

namespace troupe::actors {

namespace {

instant now_steady() { return std::chrono::steady_clock::now(); }

} // namespace

tenant::tenant(tenant_terms terms)
    : name_{terms.name}, terms_{std::make_shared<const tenant_terms>(std::move(terms))},
      quota_{terms_->limits}, budget_{terms_->budget} {}

std::shared_ptr<const tenant_terms> tenant::terms() const {
  const std::lock_guard guard{lock_};
  return terms_;
}

void tenant::set_terms(tenant_terms terms) {
  terms.name = name_;
  auto next = std::make_shared<const tenant_terms>(std::move(terms));
  const std::lock_guard guard{lock_};
  quota_.set_limits(next->limits);
  if (next->budget != budget_.terms())
    budget_ = policies::budget{next->budget};
  terms_ = std::move(next);
}

std::optional<wall_time> tenant::budget_from(wall_time now) const {
  const std::lock_guard guard{lock_};
  return budget_.limited() ? std::optional{budget_.counts_from(now)} : std::nullopt;
}

void tenant::restore(std::span<const storage::usage_row> rows) {
  const std::lock_guard guard{lock_};
  budget_ = policies::budget{terms_->budget};
  for (const auto& row : rows)
    budget_.charge(cost(row), row.hour);
  for (const auto& row : unwritten_)
    budget_.charge(cost(row), row.hour);
}

tenant_usage tenant::usage(instant now, wall_time wall) const {
  const std::lock_guard guard{lock_};
  tenant_usage out;
  out.limits = quota_.limits();
  out.requests_left = quota_.requests().left(now);
  out.tokens_left = quota_.tokens().left(now);
  out.requests_reset = quota_.requests().reset(now);
  out.tokens_reset = quota_.tokens().reset(now);
  out.running = quota_.running();
  out.requests = requests_;
  out.prompt_tokens = prompt_tokens_;
  out.completion_tokens = completion_tokens_;
  out.refused_by = refused_;
  out.refused = std::accumulate(refused_.begin(), refused_.end(), uint64_t{0});
  out.budget = budget_.terms();
  if (budget_.limited()) {
    out.spent = budget_.spent(wall);
    out.past_soft_limit = out.budget.soft > 0 && out.spent >= out.budget.soft * out.budget.limit;
    out.budget_relief = budget_.next_relief(wall);
  }
  return out;
}

std::vector<storage::usage_row> tenant::take_unwritten() {
  const std::lock_guard guard{lock_};
  return std::exchange(unwritten_, {});
}

void tenant::put_back(const std::vector<storage::usage_row>& rows) {
  const std::lock_guard guard{lock_};
  for (const auto& row : rows)
    note(row);
}

bool tenant::nothing_unwritten() const {
  const std::lock_guard guard{lock_};
  return unwritten_.empty();
}

void tenant::note_refused(policies::quota_kind limit) {
  const std::lock_guard guard{lock_};
  count_refused(limit);
}

policies::quota_refusal tenant::budget_refusal(wall_time now) const {
  const std::lock_guard guard{lock_};
  return refuse_by_budget(now);
}

/// With the lock held.
policies::quota_refusal tenant::refuse_by_budget(wall_time now) const {
  const auto wait = std::max(budget_.next_relief(now) - now, wall_time::duration{0});
  return {policies::quota_kind::budget, std::chrono::duration_cast<duration>(wait), false};
}

double tenant::cost(const storage::usage_row& of) const {
  return policies::cost_of(budget_.terms().prices, of.prompt_tokens, of.cached_tokens,
                           of.completion_tokens);
}

/// With the lock held.
void tenant::note(const storage::usage_row& used) {
  // The latest row is nearly always the one.
  const auto found = std::find_if(unwritten_.rbegin(), unwritten_.rend(), [&](const auto& x) {
    return x.hour == used.hour && x.model == used.model;
  });
  if (found == unwritten_.rend()) {
    if (unwritten_.size() >= unwritten_max) // nobody writes: what is oldest is forgotten
      unwritten_.erase(unwritten_.begin());
    return unwritten_.push_back(used);
  }
  found->requests += used.requests;
  found->prompt_tokens += used.prompt_tokens;
  found->cached_tokens += used.cached_tokens;
  found->completion_tokens += used.completion_tokens;
}

std::variant<std::unique_ptr<quota_ticket>, policies::quota_refusal>
quota_ticket::begin(std::shared_ptr<tenant> who, instant now, wall_time wall) {
  std::unique_ptr<quota_ticket> ticket{new quota_ticket{who}};
  const std::lock_guard guard{who->lock_};
  auto why =
      who->budget_.over(wall) ? std::optional{who->refuse_by_budget(wall)} : who->quota_.begin(now);
  if (!why) {
    ++who->requests_;
    return ticket;
  }
  who->count_refused(why->kind);
  ticket->shadowed_ = true; // it holds no place
  if (who->held().enforce)
    return *why;
  ticket->over_ = why->kind == policies::quota_kind::budget;
  return ticket;
}

std::optional<policies::quota_refusal>
quota_ticket::reserve(uint64_t prompt_tokens, uint64_t answer_max, instant now, wall_time wall) {
  prompt_tokens_ = prompt_tokens;
  if (shadowed_)
    return std::nullopt;
  const std::lock_guard guard{who_->lock_};
  // Which of its tokens the prefix cache holds is not known yet: the better case counts.
  const auto prices = who_->budget_.terms().prices;
  const auto prompt = std::min(prices.input, prices.cached) * static_cast<double>(prompt_tokens);
  std::optional<policies::quota_refusal> why;
  if (!who_->budget_.fits(who_->promised_ + prompt, wall))
    why = who_->refuse_by_budget(wall);
  else
    why = who_->quota_.reserve(prompt_tokens + answer_max, now, reserved_);
  if (why)
    who_->count_refused(why->kind);
  if (why && who_->held().enforce)
    return why;
  promised_ = prompt;
  who_->promised_ += prompt;
  return std::nullopt;
}

bool quota_ticket::used(const actors::usage& so_far, const std::string& model, wall_time now,
                        bool end) {
  const auto before = used_.value_or(actors::usage{});
  const storage::usage_row more{.tenant = who_->name_,
                                .model = model,
                                .hour = std::chrono::floor<std::chrono::hours>(now),
                                .requests = used_ ? 0u : 1u,
                                .prompt_tokens = so_far.prompt_tokens - before.prompt_tokens,
                                .cached_tokens = so_far.cached_tokens - before.cached_tokens,
                                .completion_tokens =
                                    so_far.completion_tokens - before.completion_tokens};
  bool warn = false;
  {
    const std::lock_guard guard{who_->lock_};
    auto& budget = who_->budget_;
    if (!end && budget.over(now)) {
      if (!std::exchange(over_, true))
        who_->count_refused(policies::quota_kind::budget);
      if (who_->held().enforce)
        return false;
    }
    used_ = so_far;
    who_->promised_ = std::max(0.0, who_->promised_ - std::exchange(promised_, 0));
    who_->prompt_tokens_ += more.prompt_tokens;
    who_->completion_tokens_ += more.completion_tokens;
    who_->note(more);
    if (budget.limited()) {
      budget.charge(who_->cost(more), now);
      warn = budget.warn(now);
    }
  }
  if (warn)
    log_warning("tenant " + who_->name_ + " has passed the soft limit of its budget");
  return true;
}

quota_ticket::~quota_ticket() {
  const std::lock_guard guard{who_->lock_};
  who_->promised_ = std::max(0.0, who_->promised_ - promised_);
  if (shadowed_)
    return;
  // Without a token its prompt may have been computed all the same.
  const uint64_t tokens =
      used_ ? uint64_t{used_->prompt_tokens} + used_->completion_tokens : prompt_tokens_;
  who_->quota_.settle(reserved_, tokens, now_steady());
  who_->quota_.end();
}

} // namespace troupe::actors
