#include "cli/state.hpp"

#include <cstdlib>
#include <mutex>

#include "config/errors.hpp"

namespace troupe::cli {

caf::expected<std::optional<std::filesystem::path>> state_dir(const config::settings& settings) {
  if (settings.state_dir == "off")
    return std::optional<std::filesystem::path>{};
  if (settings.state_dir != "on")
    return std::optional<std::filesystem::path>{settings.state_dir};
  const auto variable = [](const char* name) {
    const char* held = std::getenv(name);
    return std::filesystem::path{held ? held : ""};
  };
  if (const auto home = variable("XDG_STATE_HOME"); home.is_absolute())
    return std::optional{home / "troupe"};
  if (const auto home = variable("HOME"); home.is_absolute())
    return std::optional{home / ".local" / "state" / "troupe"};
  return caf::make_error(config::errc::invalid_value,
                         "neither XDG_STATE_HOME nor HOME says where keys and the usage of tenants "
                         "are to be kept: set state_dir to a directory, or to false");
}

bool keeps_keys(const config::settings& settings) { return !settings.tenants.empty(); }

namespace {

/// Has a file only once there are tenants.
class late_usage_store final : public storage::usage_store {
public:
  caf::error open(const config::settings& settings) {
    const std::lock_guard guard{lock_};
    if (store_ || settings.tenants.empty())
      return {};
    const auto dir = state_dir(settings);
    if (!dir)
      return dir.error();
    if (!*dir)
      return {};
    auto store = storage::open_usage_store(**dir);
    if (!store)
      return std::move(store.error());
    store_ = std::move(*store);
    return {};
  }
  caf::error add(std::span<const storage::usage_row> rows) override {
    const std::lock_guard guard{lock_};
    return store_ ? store_->add(rows) : caf::error{};
  }
  caf::expected<std::vector<storage::usage_row>> since(storage::hour_point from) override {
    const std::lock_guard guard{lock_};
    return store_ ? store_->since(from) : std::vector<storage::usage_row>{};
  }
  caf::expected<std::vector<storage::usage_row>> totals(storage::hour_point from) override {
    const std::lock_guard guard{lock_};
    return store_ ? store_->totals(from) : std::vector<storage::usage_row>{};
  }

private:
  std::mutex lock_; ///< the ledger's thread writes, a reload opens
  std::unique_ptr<storage::usage_store> store_;
};

} // namespace

caf::expected<kept_ledger> open_ledger(const config::settings& settings,
                                       std::shared_ptr<const actors::tenant_registry> tenants) {
  if (settings.state_dir == "off")
    return kept_ledger{};
  auto store = std::make_unique<late_usage_store>();
  if (auto why = store->open(settings))
    return why;
  auto* kept = store.get();
  auto started = actors::ledger::start(std::move(store), std::move(tenants));
  if (!started)
    return std::move(started.error());
  return kept_ledger{*started, [owner = *started, kept](const config::settings& next) {
                       return kept->open(next);
                     }};
}

} // namespace troupe::cli
