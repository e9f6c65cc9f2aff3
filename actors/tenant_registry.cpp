#include "actors/tenant_registry.hpp"

#include <algorithm>

namespace troupe::actors {

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
  auto known = roster_->tenants;
  known.insert(known.end(), leaving_.begin(), leaving_.end());
  auto next = std::make_shared<roster>();
  const auto admit = [&](tenant_terms terms) {
    next->closed = next->closed || !terms.keys.empty();
    const auto same = [&](const auto& x) { return x->name() == terms.name; };
    auto keys = terms.keys;
    const auto found = std::ranges::find_if(known, same);
    std::shared_ptr<tenant> who;
    if (found == known.end()) {
      who = std::make_shared<tenant>(std::move(terms));
    } else {
      who = *found;
      who->set_terms(std::move(terms));
    }
    next->tenants.push_back(who);
    next->members.push_back({who, std::move(keys)});
    if (who->name() == fallback)
      next->fallback = who;
  };
  for (auto& terms : tenants)
    admit(std::move(terms));
  next->admin_keys = std::move(admin_keys);
  next->closed = next->closed || !next->admin_keys.empty();
  if (!next->fallback && !next->closed)
    admit({.name = fallback});
  for (const auto& who : known)
    if (std::ranges::find(next->tenants, who) == next->tenants.end() &&
        std::ranges::find(leaving_, who) == leaving_.end())
      leaving_.push_back(who);
  std::erase_if(leaving_, [&](const auto& who) {
    return std::ranges::find(next->tenants, who) != next->tenants.end();
  });
  roster_ = std::move(next);
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

tenant_registry::answer tenant_registry::authenticate(std::string_view key, wall_time at) const {
  const auto all = now();
  if (!all->closed)
    return {verdict::welcome, all->fallback, true};
  if (key.empty())
    return {};
  const auto hash = sha256(key);
  answer out{verdict::unknown_key, nullptr, false};
  const auto look = [&](const access_key& known, const std::shared_ptr<tenant>& who) {
    if (!equal_in_constant_time(hash, known.hash))
      return;
    if (known.expires && *known.expires <= at) {
      if (out.what != verdict::welcome)
        out.what = verdict::expired;
      return;
    }
    out = {verdict::welcome, who, !who};
  };
  for (const auto& one : all->members)
    for (const auto& known : one.keys)
      look(known, one.who);
  for (const auto& known : all->admin_keys)
    look(known, nullptr);
  return out;
}

} // namespace troupe::actors
