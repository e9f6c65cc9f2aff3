#include "policies/tenant_holds.hpp"

#include <algorithm>
#include <tuple>
#include <utility>

namespace troupe::policies {

namespace {

std::string mib(uint64_t bytes) { return std::to_string((bytes + (1u << 20) - 1) >> 20) + " MiB"; }

/// What is busy now is expected to be free then.
constexpr duration busy_wait = std::chrono::seconds{5};

} // namespace

/// What a tenant would hold with one model more.
struct tenant_holds::bill {
  struct idle_model {
    instant last_used;
    model_id model;
    uint64_t bytes = 0;
  };
  uint64_t models = 1; ///< the new one
  uint64_t new_bytes = 0;
  uint64_t bytes = 0;           ///< the new one's among them
  std::vector<idle_model> idle; ///< the longest unused first
};

/// The part of a tenant that holds it, or will beside those who hold it now.
uint64_t tenant_holds::share(const model_id& model, uint64_t bytes, uint64_t besides,
                             instant now) const {
  return bytes / std::max<uint64_t>(holders(model, now) + besides, 1);
}

tenant_holds::bill tenant_holds::make_bill(const question& ask, const look_up& facts,
                                           const account& of, instant now) const {
  bill out;
  out.bytes = out.new_bytes = share(ask.model, facts(ask.model).bytes, 1, now);
  for (const auto& [model, hold] : of.models) {
    const auto what = facts(model);
    if (what.pinned || !(hold.counts(now) || what.loading))
      continue;
    const auto bytes = share(model, what.bytes, hold.counts(now) ? 0 : 1, now);
    ++out.models;
    out.bytes += bytes;
    if (hold.active == 0 && !what.loading)
      out.idle.push_back({hold.last_used, model, bytes});
  }
  std::ranges::sort(out.idle, {}, [](const auto& x) { return std::tie(x.last_used, x.model); });
  return out;
}

/// Which of its own the tenant lets go, or why that does not help.
std::optional<cap_refusal> tenant_holds::make_room(const question& ask, const look_up& facts,
                                                   instant now,
                                                   std::vector<model_id>& released) const {
  const auto& caps = ask.caps;
  const auto at = accounts_.find(ask.tenant);
  static const account nothing;
  const auto& of = at == accounts_.end() ? nothing : at->second;
  const auto own = of.models.find(ask.model);
  if ((caps.warm_models == 0 && caps.memory_bytes == 0) || facts(ask.model).pinned ||
      (own != of.models.end() && own->second.counts(now)))
    return std::nullopt;
  auto bill = make_bill(ask, facts, of, now);
  const auto too_many = [&] { return caps.warm_models > 0 && bill.models > caps.warm_models; };
  const auto too_large = [&] { return caps.memory_bytes > 0 && bill.bytes > caps.memory_bytes; };
  for (const auto& one : bill.idle) {
    if (!too_many() && !too_large())
      break;
    --bill.models;
    bill.bytes -= one.bytes;
    released.push_back(one.model);
  }
  if (too_many())
    return cap_refusal{quota_kind::warm_models,
                       "'" + ask.name + "' keeps " + std::to_string(bill.models - 1) +
                           " models busy, as many as it may have loaded.",
                       busy_wait};
  if (!too_large())
    return std::nullopt;
  if (bill.new_bytes > caps.memory_bytes)
    return cap_refusal{quota_kind::memory,
                       "The model `" + ask.model.text + "` needs " + mib(bill.new_bytes) +
                           ", more than the " + mib(caps.memory_bytes) + " that '" + ask.name +
                           "' may have loaded.",
                       std::nullopt};
  return cap_refusal{quota_kind::memory,
                     "The model `" + ask.model.text + "` needs " + mib(bill.new_bytes) +
                         " beside the " + mib(bill.bytes - bill.new_bytes) + " that '" + ask.name +
                         "' keeps busy; together more than the " + mib(caps.memory_bytes) +
                         " that it may have loaded.",
                     busy_wait};
}

tenant_holds::answer tenant_holds::admit(const question& ask, const look_up& facts, instant now) {
  answer out;
  const auto& caps = ask.caps;
  if (!caps.any())
    return out;
  auto& of = accounts_[ask.tenant];
  std::vector<model_id> released;
  if (caps.queue > 0 && !ask.at_once && of.waiting.size() >= caps.queue)
    out.over = {quota_kind::queue,
                "'" + ask.name + "' has " + std::to_string(of.waiting.size()) +
                    " requests waiting, as many as it may.",
                std::clamp<duration>(now - of.waiting.begin()->second.since,
                                     std::chrono::seconds{1}, std::chrono::seconds{60})};
  else
    out.over = make_room(ask, facts, now, released);
  of.cold_starts.set_limit(caps.cold_starts_per_hour);
  if (!out.over && ask.cold && of.cold_starts.limited()) {
    if (of.cold_starts.fits(1, now))
      of.cold_starts.add(1, now);
    else
      out.over = {quota_kind::cold_starts,
                  "'" + ask.name + "' had " + std::to_string(caps.cold_starts_per_hour) +
                      " models loaded within an hour, as many as it may.",
                  of.cold_starts.wait(1, now)};
  }
  // A limit that is only watched changes nothing.
  if (!out.over && caps.enforce)
    for (const auto& model : released)
      if (release(ask.tenant, model, now))
        out.released.push_back(model);
  tidy(ask.tenant, now);
  return out;
}

bool tenant_holds::release(uint64_t tenant, const model_id& model, instant now) {
  accounts_.at(tenant).models.erase(model);
  auto& others = holders_.at(model);
  others.erase(tenant);
  const bool alone = std::ranges::none_of(
      others, [&](uint64_t x) { return accounts_.at(x).models.at(model).counts(now); });
  if (others.empty())
    holders_.erase(model);
  return alone;
}

void tenant_holds::begin(sequence_id id, uint64_t tenant, const model_id& model, instant now,
                         uint32_t prompt_tokens) {
  end(id, now, now); // one that is resumed begins again
  sequences_[id] = {tenant, model, true, prompt_tokens};
  auto& of = accounts_[tenant];
  auto& held = of.models[model];
  ++held.active;
  ++held.waits;
  held.last_used = now;
  holders_[model].insert(tenant);
  auto& request = of.waiting[id.number];
  if (request.sequences++ == 0)
    request.since = now;
}

void tenant_holds::started(sequence_id id) {
  const auto at = sequences_.find(id);
  if (at == sequences_.end() || !at->second.waits)
    return;
  stop_waiting(id, at->second);
  auto& of = at->second;
  ++running_[of.model][of.tenant];
  accounts_.at(of.tenant).models.at(of.model).prompt_tokens += of.prompt_tokens;
}

void tenant_holds::answered(sequence_id id) {
  const auto at = sequences_.find(id);
  if (at == sequences_.end() || at->second.waits)
    return;
  auto& of = at->second;
  accounts_.at(of.tenant).models.at(of.model).prompt_tokens -= std::exchange(of.prompt_tokens, 0);
}

void tenant_holds::stop_waiting(sequence_id id, sequence& of) {
  if (!std::exchange(of.waits, false))
    return;
  auto& account = accounts_.at(of.tenant);
  --account.models.at(of.model).waits;
  auto& waiting = account.waiting;
  const auto at = waiting.find(id.number);
  if (--at->second.sequences == 0)
    waiting.erase(at);
}

void tenant_holds::stop_running(const sequence& of) {
  const auto there = running_.find(of.model);
  const auto own = there->second.find(of.tenant);
  if (--own->second > 0)
    return;
  there->second.erase(own);
  if (there->second.empty())
    running_.erase(there);
}

void tenant_holds::end(sequence_id id, instant now, instant held_until) {
  const auto at = sequences_.find(id);
  if (at == sequences_.end())
    return;
  answered(id);
  auto of = std::move(at->second);
  sequences_.erase(at);
  of.waits ? stop_waiting(id, of) : stop_running(of);
  auto& held = accounts_.at(of.tenant).models.at(of.model);
  --held.active;
  held.last_used = now;
  held.until = held_until;
  tidy(of.tenant, now);
}

void tenant_holds::unloaded(const model_id& model, instant now) {
  const auto at = holders_.find(model);
  if (at == holders_.end())
    return;
  const auto before = at->second;
  std::erase_if(at->second, [&](uint64_t tenant) {
    auto& models = accounts_.at(tenant).models;
    const auto held = models.find(model);
    if (held->second.active > 0) // it will be loaded again for those
      return false;
    models.erase(held);
    return true;
  });
  if (at->second.empty())
    holders_.erase(at);
  for (const auto tenant : before)
    tidy(tenant, now);
}

/// Forgets what no longer counts.
void tenant_holds::tidy(uint64_t tenant, instant now) {
  auto& of = accounts_.at(tenant);
  if (of.waiting.empty() && of.models.empty() && of.cold_starts.used(now) == 0)
    accounts_.erase(tenant);
}

size_t tenant_holds::held(uint64_t tenant, instant now) const {
  const auto at = accounts_.find(tenant);
  if (at == accounts_.end())
    return 0;
  return static_cast<size_t>(std::ranges::count_if(
      at->second.models, [&](const auto& x) { return x.second.counts(now); }));
}

size_t tenant_holds::waiting(uint64_t tenant) const {
  const auto at = accounts_.find(tenant);
  return at == accounts_.end() ? 0 : at->second.waiting.size();
}

size_t tenant_holds::holders(const model_id& model, instant now) const {
  const auto at = holders_.find(model);
  return at == holders_.end()
             ? 0
             : static_cast<size_t>(std::ranges::count_if(at->second, [&](uint64_t tenant) {
                 return accounts_.at(tenant).models.at(model).counts(now);
               }));
}

size_t tenant_holds::running(uint64_t tenant, const model_id& model) const {
  const auto there = running_.find(model);
  if (there == running_.end())
    return 0;
  const auto own = there->second.find(tenant);
  return own == there->second.end() ? 0 : own->second;
}

size_t tenant_holds::most_running(const model_id& model) const {
  size_t most = 0;
  if (const auto there = running_.find(model); there != running_.end())
    for (const auto& [tenant, sequences] : there->second)
      most = std::max(most, sequences);
  return most;
}

uint64_t tenant_holds::prompt_tokens(uint64_t tenant, const model_id& model) const {
  const auto at = accounts_.find(tenant);
  if (at == accounts_.end())
    return 0;
  const auto held = at->second.models.find(model);
  return held == at->second.models.end() ? 0 : held->second.prompt_tokens;
}

} // namespace troupe::policies
