#include "cli/reload.hpp"

#include "actors/log.hpp"
#include "cli/access.hpp"
#include "config/errors.hpp"
#include "config/layers.hpp"

namespace troupe::cli {

namespace {

/// What cannot change while the server runs, as text.
std::string fixed_part(config::settings of) {
  of.tenants.clear();
  of.admin_keys.clear();
  of.default_tenant.clear();
  return config::show(of, nullptr);
}

} // namespace

tenant_reloader::tenant_reloader(settings_source source, config::settings running,
                                 std::shared_ptr<actors::tenant_registry> tenants,
                                 std::shared_ptr<actors::ledger> ledger, key_watch& keys)
    : source_{std::move(source)}, running_{std::move(running)}, tenants_{std::move(tenants)},
      ledger_{std::move(ledger)}, keys_{keys}, applied_{stamp_now()}, seen_{applied_} {}

tenant_reloader::stamp tenant_reloader::stamp_now() const {
  if (!source_.file)
    return {};
  std::error_code missing;
  stamp out{std::filesystem::last_write_time(*source_.file, missing), 0};
  out.size = std::filesystem::file_size(*source_.file, missing);
  return missing ? stamp{} : out;
}

void tenant_reloader::look() {
  keys_.look();
  if (++looks_ % (std::chrono::seconds{1} / look_interval) != 0)
    return;
  const auto now = stamp_now();
  // A file that is being written is not read half.
  const bool settled = now == std::exchange(seen_, now);
  if (settled && now != applied_ && now != stamp{})
    reload();
}

void tenant_reloader::reload() {
  applied_ = seen_ = stamp_now();
  const auto loaded = source_.load();
  auto why = loaded ? apply(loaded->values) : loaded.error();
  if (why)
    return actors::log_error("the configuration was not reloaded, what was before stays: " +
                             describe(why));
  actors::log_info("the configuration was reloaded: " +
                   std::to_string(loaded->values.tenants.size()) + " tenants");
  if (fixed_part(loaded->values) != fixed_part(running_))
    actors::log_warning("tenants, admin_keys and default_tenant were reloaded; what else has "
                        "changed comes with the next start");
}

caf::error tenant_reloader::apply(const config::settings& next) {
  auto terms = terms_of(next);
  if (!terms)
    return std::move(terms.error());
  bool keys = !terms->admin_keys.empty(), budgets = false;
  for (const auto& one : terms->tenants) {
    keys = keys || !one.keys.empty();
    budgets = budgets || one.budget.limit > 0;
  }
  if (auto why = keys_.open(next))
    return why;
  keys = keys || tenants_->has_issued_keys();
  // A file that lost its keys by accident must not let everybody in.
  if (!keys && !tenants_->open())
    return caf::make_error(config::errc::invalid_value,
                           "no key is left, so everybody would be let in: restart to do that");
  if (budgets && !ledger_)
    return caf::make_error(config::errc::invalid_value,
                           "a budget needs a ledger, which this server was started without: "
                           "restart it");
  tenants_->apply(std::move(terms->tenants), next.default_tenant, std::move(terms->admin_keys));
  if (ledger_)
    ledger_->restore_budgets();
  return {};
}

} // namespace troupe::cli
