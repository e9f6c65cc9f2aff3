#include "cli/reload.hpp"

#include <algorithm>
#include <tuple>

#include "actors/log.hpp"
#include "cli/access.hpp"
#include "cli/hidden_secrets.hpp"
#include "config/errors.hpp"
#include "config/keys.hpp"
#include "config/layers.hpp"
#include "storage/store/files.hpp"

namespace troupe::cli {

namespace {

/// Keys that differ and cannot change while the server runs.
std::vector<std::string> fixed_differences(const config::settings& a, const config::settings& b) {
  auto out = config::differences(a, b);
  std::erase(out, "default_tenant");
  return out;
}

constexpr std::string_view hash_mark = "sha256:", hidden_mark = "sha256:hidden-";
constexpr size_t shown_digits = 8;

std::string hidden(const std::string& hash) {
  return std::string{hidden_mark} + hash.substr(hash_mark.size(), shown_digits);
}

template <class Settings, class F>
void for_each_key(Settings& of, F f) {
  for (auto& tenant : of.tenants)
    for (auto& key : tenant.keys)
      f(key);
  for (auto& key : of.admin_keys)
    f(key);
}

} // namespace

tenant_reloader::tenant_reloader(settings_source source, config::settings running,
                                 std::shared_ptr<actors::tenant_registry> tenants,
                                 kept_ledger ledger, key_watch& keys)
    : source_{std::move(source)}, running_{std::move(running)}, tenants_{std::move(tenants)},
      ledger_{std::move(ledger)}, keys_{keys}, applied_{stamp_now()}, seen_{applied_} {}

file_stamp tenant_reloader::stamp_now() const {
  return source_.file ? stamp_of(*source_.file) : file_stamp{};
}

void tenant_reloader::look() {
  const auto now = stamp_now();
  // A file that is being written is not read half.
  const bool settled = now == std::exchange(seen_, now);
  if (settled && now != applied_ && now != file_stamp{})
    reload();
}

void tenant_reloader::reload() {
  applied_ = seen_ = stamp_now();
  const auto loaded = source_.load(nullptr);
  auto why = loaded ? apply(loaded->values) : loaded.error();
  if (why)
    return actors::log_error("the configuration was not reloaded, what was before stays: " +
                             describe(why));
  actors::log_info("the configuration was reloaded: " +
                   std::to_string(loaded->values.tenants.size()) + " tenants");
  if (!fixed_differences(loaded->values, running_).empty())
    actors::log_warning("tenants, admin_keys and default_tenant were reloaded; what else has "
                        "changed comes with the next start");
}

std::string tenant_reloader::show() const {
  auto shown = without_secrets(running_);
  for_each_key(shown, [](config::access_key_settings& key) {
    if (!key.hash.empty())
      key.hash = hidden(key.hash);
  });
  return config::show(shown, nullptr);
}

caf::error tenant_reloader::restore_hashes(std::string& text) const {
  for (size_t at = 0; (at = text.find(hidden_mark, at)) != std::string::npos; ++at) {
    const auto short_form = text.substr(at, hidden_mark.size() + shown_digits);
    std::string whole;
    for_each_key(running_, [&](const config::access_key_settings& key) {
      if (!key.hash.empty() && hidden(key.hash) == short_form)
        whole = key.hash;
    });
    if (whole.empty())
      return caf::make_error(
          config::errc::invalid_value,
          "line " +
              std::to_string(
                  std::count(text.begin(), text.begin() + static_cast<ptrdiff_t>(at), '\n') + 1) +
              ": " + short_form + " is no key that this server has: write its whole hash");
    text.replace(at, short_form.size(), whole);
  }
  return {};
}

gateway::config_outcome tenant_reloader::put(std::string text, bool save) {
  gateway::config_outcome out;
  const auto refuse = [&](int status, const caf::error& why) {
    out.status = status;
    out.problem = describe(why);
    return out;
  };
  if (auto why = restore_hashes(text))
    return refuse(400, why);
  if (auto why = restore_secrets(text, running_))
    return refuse(400, why);
  const auto file = source_.file.value_or("troupe.yaml");
  const config::document given{text, "body", file.parent_path()};
  const auto loaded = source_.load(&given);
  if (!loaded)
    return refuse(400, loaded.error());
  if (save && !source_.file)
    return refuse(409, caf::make_error(config::errc::unreadable,
                                       "this server was started without a configuration file, so "
                                       "there is none to save to"));
  const auto before = running_;
  if (auto why = apply(loaded->values))
    return refuse(400, why);
  if (save)
    if (auto why = write_file(text)) {
      std::ignore = apply(before);
      return refuse(500, why);
    }
  out.tenants = loaded->values.tenants.size();
  out.saved = save;
  out.not_applied = fixed_differences(loaded->values, running_);
  actors::log_info("a new configuration was put: " + std::to_string(out.tenants) + " tenants");
  return out;
}

caf::error tenant_reloader::write_file(const std::string& text) {
  std::error_code ignored;
  const auto file = std::filesystem::canonical(*source_.file, ignored); // a link stays one
  const auto mode = std::filesystem::status(file, ignored).permissions();
  if (auto why = storage::replace_file(file, text))
    return why;
  std::filesystem::permissions(file, mode, ignored);
  applied_ = seen_ = stamp_now(); // it is what applies
  return {};
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
  if (budgets && !ledger_.ledger)
    return caf::make_error(config::errc::invalid_value,
                           "a budget needs a ledger, which this server was started without: "
                           "restart it");
  if (ledger_.open)
    if (auto why = ledger_.open(next))
      return why;
  tenants_->apply(std::move(terms->tenants), next.default_tenant, std::move(terms->admin_keys));
  if (ledger_.ledger)
    ledger_.ledger->restore_budgets();
  running_.tenants = next.tenants;
  running_.admin_keys = next.admin_keys;
  running_.default_tenant = next.default_tenant;
  return {};
}

} // namespace troupe::cli
