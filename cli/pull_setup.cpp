#include "cli/pull_setup.hpp"

#include <cstdlib>
#include <memory>
#include <mutex>
#include <random>

#include "policies/backoff.hpp"
#include "storage/catalog.hpp"

namespace troupe::cli {

namespace {

constexpr std::chrono::milliseconds first_pause{500};
constexpr std::chrono::seconds pause_max{30};

/// Any number of threads may ask for the next pause.
struct shared_dice {
  std::mutex mutex;
  std::mt19937_64 random{std::random_device{}()};
};

storage::retry_plan retry_plan_of(unsigned attempts) {
  return [attempts, dice = std::make_shared<shared_dice>()](
             unsigned failures) -> std::optional<std::chrono::milliseconds> {
    if (failures > attempts)
      return std::nullopt;
    const std::lock_guard guard{dice->mutex};
    return std::chrono::duration_cast<std::chrono::milliseconds>(
        policies::jittered_pause(first_pause, pause_max, failures, dice->random));
  };
}

} // namespace

std::filesystem::path store_dir_of(const config::settings& settings) {
  if (!settings.store_dir.empty())
    return settings.store_dir;
  if (const char* data = std::getenv("XDG_DATA_HOME"); data != nullptr && *data != '\0')
    return std::filesystem::path{data} / "troupe" / "models";
  const char* home = std::getenv("HOME");
  return std::filesystem::path{home == nullptr ? "." : home} / ".local/share/troupe/models";
}

std::filesystem::path hub_cache_of(const config::settings& settings) {
  if (settings.hub_cache != "on" && settings.hub_cache != "off")
    return settings.hub_cache;
  auto usual = storage::hub_cache_dir();
  return usual.empty() ? store_dir_of(settings) / "hub" : usual;
}

storage::pull_setup pull_setup_of(const config::settings& settings) {
  storage::http_limits limits;
  limits.stall_timeout = settings.download.stall_timeout;
  limits.connect_timeout = std::min(limits.connect_timeout, settings.download.stall_timeout);
  storage::pull_setup out{.store_dir = store_dir_of(settings),
                          .hub_cache = hub_cache_of(settings),
                          .connections = settings.download.connections,
                          .retries = retry_plan_of(settings.download.retries),
                          .over = std::make_shared<storage::http_client>(limits)};
  for (const auto& [name, given] : settings.models)
    for (const auto& text : given.source.value_or(std::vector<std::string>{}))
      if (const auto from = storage::parse_location(text); from && !from->credentials.empty())
        out.known.emplace(from->text, *from);
  return out;
}

} // namespace troupe::cli
