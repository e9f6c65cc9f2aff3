#include "actors/tenant_registry.hpp"

#include <algorithm>
#include <cstring>

namespace troupe::actors {

namespace {

uint64_t beginning_of(const sha256_digest& hash) {
  uint64_t out = 0;
  static_assert(sizeof hash >= sizeof out);
  std::memcpy(&out, hash.data(), sizeof out);
  return out;
}

} // namespace

tenant_registry::tenant_registry(std::vector<tenant_terms> tenants, std::string fallback,
                                 std::vector<access_key> admin_keys) {
  apply(std::move(tenants), std::move(fallback), std::move(admin_keys));
}

std::shared_ptr<const tenant_registry::roster> tenant_registry::now() const {
  const std::lock_guard guard{lock_};
  return roster_;
}

void tenant_registry::apply(std::vector<tenant_terms> tenants, std::string fallback,
                            std::vector<access_key> admin_keys) {
  const std::lock_guard guard{lock_};
  terms_ = std::move(tenants);
  fallback_ = std::move(fallback);
  admin_keys_ = std::move(admin_keys);
  rebuild();
}

void tenant_registry::issue(std::vector<issued_key> keys) {
  const std::lock_guard guard{lock_};
  issued_.clear();
  for (auto& one : keys)
    issued_.push_back(std::make_shared<const issued_key>(std::move(one)));
  rebuild();
}

/// With the lock held.
void tenant_registry::rebuild() {
  auto known = roster_->tenants;
  known.insert(known.end(), leaving_.begin(), leaving_.end());
  auto next = std::make_shared<roster>();
  const auto admit = [&](const tenant_terms& terms) {
    next->closed = next->closed || !terms.keys.empty();
    const auto same = [&](const auto& x) { return x->name() == terms.name; };
    const auto found = std::ranges::find_if(known, same);
    std::shared_ptr<tenant> who;
    if (found == known.end()) {
      who = std::make_shared<tenant>(terms);
    } else {
      who = *found;
      who->set_terms(terms);
    }
    next->tenants.push_back(who);
    next->members.push_back({who, terms.keys});
    if (who->name() == fallback_)
      next->fallback = who;
  };
  for (const auto& terms : terms_)
    admit(terms);
  next->administered = !admin_keys_.empty();
  for (const auto& one : issued_) {
    const auto same = [&](const auto& x) { return x->name() == one->tenant; };
    const auto owner = std::ranges::find_if(next->tenants, same);
    if (owner == next->tenants.end() && !one->tenant.empty())
      continue; // of a tenant that is not here
    next->issued_keys.push_back({one, one->tenant.empty() ? nullptr : *owner});
    next->administered = next->administered || (one->tenant.empty() && !one->revoked);
  }
  next->closed = next->closed || next->administered || !issued_.empty();
  if (!next->fallback && !next->closed)
    admit({.name = fallback_});
  for (const auto& who : known)
    if (std::ranges::find(next->tenants, who) == next->tenants.end() &&
        std::ranges::find(leaving_, who) == leaving_.end())
      leaving_.push_back(who);
  std::erase_if(leaving_, [&](const auto& who) {
    return std::ranges::find(next->tenants, who) != next->tenants.end();
  });
  index(*next);
  roster_ = std::move(next);
}

/// With the lock held.
void tenant_registry::index(roster& all) const {
  const auto add = [&](entry one) { all.keys.emplace(beginning_of(one.key.hash), std::move(one)); };
  for (const auto& one : all.members)
    for (const auto& key : one.keys)
      add({key, one.who, nullptr});
  for (const auto& key : admin_keys_)
    add({key, nullptr, nullptr});
  for (const auto& one : all.issued_keys)
    add({one.what->key, one.who, one.what});
}

bool tenant_registry::has_issued_keys() const {
  const std::lock_guard guard{lock_};
  return !issued_.empty();
}

std::vector<std::string> tenant_registry::key_names(const tenant& of, wall_time at) const {
  std::vector<std::string> out;
  const auto all = now();
  const auto add = [&](const access_key& key, const std::string& otherwise) {
    if (!key.expires || *key.expires > at)
      out.push_back(key.name.empty() ? otherwise : key.name);
  };
  for (const auto& one : all->members)
    if (one.who.get() == &of)
      for (const auto& key : one.keys)
        add(key, {});
  for (const auto& one : all->issued_keys)
    if (one.who.get() == &of && !one.what->revoked)
      add(one.what->key, one.what->id);
  return out;
}

std::vector<std::shared_ptr<tenant>> tenant_registry::accounts() const {
  const std::lock_guard guard{lock_};
  // Nobody else holds it: no request of it runs any more.
  std::erase_if(leaving_,
                [](const auto& who) { return who.use_count() == 1 && who->nothing_unwritten(); });
  auto out = roster_->tenants;
  out.insert(out.end(), leaving_.begin(), leaving_.end());
  return out;
}

tenant_registry::answer tenant_registry::authenticate(std::string_view key, wall_time when) const {
  const auto all = now();
  if (!all->closed)
    return {verdict::welcome, all->fallback, true};
  if (key.empty())
    return {};
  const auto hash = sha256(key);
  answer out{verdict::unknown_key, nullptr, false};
  const auto [first, last] = all->keys.equal_range(beginning_of(hash));
  for (auto at = first; at != last; ++at) {
    const auto& [known, who, issued] = at->second;
    if (!equal_in_constant_time(hash, known.hash))
      continue;
    const bool revoked = issued && issued->revoked;
    if (!revoked && !(known.expires && *known.expires <= when))
      out = {verdict::welcome, who, !who, issued};
    else if (out.what != verdict::welcome)
      out.what = revoked ? verdict::revoked : verdict::expired;
  }
  return out;
}

} // namespace troupe::actors
