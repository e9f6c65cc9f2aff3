#include "actors/tenants.hpp"

#include <algorithm>

namespace troupe::actors {

namespace {

instant now_steady() { return std::chrono::steady_clock::now(); }

} // namespace

tenant_usage tenant::usage(instant now) const {
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
  out.refused = refused_;
  return out;
}

std::vector<storage::usage_row> tenant::take_unwritten() {
  const std::lock_guard guard{lock_};
  return std::exchange(unwritten_, {});
}

void tenant::put_back(std::vector<storage::usage_row> rows) {
  const std::lock_guard guard{lock_};
  for (const auto& row : rows)
    note(row);
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
quota_ticket::begin(std::shared_ptr<tenant> who, instant now) {
  std::unique_ptr<quota_ticket> ticket{new quota_ticket{who}};
  const std::lock_guard guard{who->lock_};
  if (const auto why = who->quota_.begin(now)) {
    ++who->refused_;
    if (who->terms_.enforce) {
      ticket->who_ = nullptr; // it holds no place
      return *why;
    }
    ticket->shadowed_ = true;
    return ticket;
  }
  ++who->requests_;
  return ticket;
}

std::optional<policies::quota_refusal> quota_ticket::reserve(uint64_t prompt_tokens,
                                                             uint64_t answer_max, instant now) {
  prompt_tokens_ = prompt_tokens;
  if (shadowed_)
    return std::nullopt;
  const std::lock_guard guard{who_->lock_};
  const auto why = who_->quota_.reserve(prompt_tokens + answer_max, now, reserved_);
  who_->refused_ += why.has_value();
  return who_->terms_.enforce ? why : std::nullopt;
}

void quota_ticket::used(const actors::usage& so_far, const std::string& model, wall_time now) {
  const auto before = used_.value_or(actors::usage{});
  const storage::usage_row more{.tenant = who_->terms_.name,
                                .model = model,
                                .hour = std::chrono::floor<std::chrono::hours>(now),
                                .requests = used_ ? 0u : 1u,
                                .prompt_tokens = so_far.prompt_tokens - before.prompt_tokens,
                                .cached_tokens = so_far.cached_tokens - before.cached_tokens,
                                .completion_tokens =
                                    so_far.completion_tokens - before.completion_tokens};
  used_ = so_far;
  const std::lock_guard guard{who_->lock_};
  who_->prompt_tokens_ += more.prompt_tokens;
  who_->completion_tokens_ += more.completion_tokens;
  who_->note(more);
}

quota_ticket::~quota_ticket() {
  if (!who_)
    return;
  if (shadowed_)
    return;
  const std::lock_guard guard{who_->lock_};
  // Without a token its prompt may have been computed all the same.
  const uint64_t tokens =
      used_ ? uint64_t{used_->prompt_tokens} + used_->completion_tokens : prompt_tokens_;
  who_->quota_.settle(reserved_, tokens, now_steady());
  who_->quota_.end();
}

tenant_registry::tenant_registry(std::vector<tenant_terms> tenants, std::string fallback,
                                 std::vector<access_key> admin_keys)
    : admin_keys_{std::move(admin_keys)} {
  for (auto& terms : tenants) {
    closed_ = closed_ || !terms.keys.empty();
    tenants_.push_back(std::make_shared<tenant>(std::move(terms)));
    if (tenants_.back()->terms().name == fallback)
      fallback_ = tenants_.back();
  }
  closed_ = closed_ || !admin_keys_.empty();
  if (fallback_ || closed_)
    return;
  fallback_ = std::make_shared<tenant>(tenant_terms{.name = std::move(fallback)});
  tenants_.push_back(fallback_);
}

tenant_registry::answer tenant_registry::authenticate(std::string_view key, wall_time now) const {
  if (open())
    return {verdict::welcome, fallback_, true};
  if (key.empty())
    return {};
  const auto hash = sha256(key);
  answer out{verdict::unknown_key, nullptr, false};
  const auto look = [&](const access_key& known, const std::shared_ptr<tenant>& who) {
    if (!equal_in_constant_time(hash, known.hash))
      return;
    if (known.expires && *known.expires <= now) {
      if (out.what != verdict::welcome)
        out.what = verdict::expired;
      return;
    }
    out = {verdict::welcome, who, !who};
  };
  for (const auto& one : tenants_)
    for (const auto& known : one->terms().keys)
      look(known, one);
  for (const auto& known : admin_keys_)
    look(known, nullptr);
  return out;
}

} // namespace troupe::actors
