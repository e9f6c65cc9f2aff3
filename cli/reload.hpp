#pragma once
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "actors/tenant_registry.hpp"
#include "cli/file_stamp.hpp"
#include "cli/key_watch.hpp"
#include "cli/state.hpp"
#include "config/load.hpp"
#include "gateway/configuration.hpp"

namespace troupe::cli {

/// Reads the settings again, as they were read at the start: file, environment, flags.
struct settings_source {
  std::optional<std::filesystem::path> file;
  /// With a document, that stands for the file.
  std::function<caf::expected<config::loaded_settings>(const config::document*)> load;
};

/// Puts tenants, keys and admin_keys of a changed configuration into a running server: all of them
/// or, when anything is wrong with it, none. One thread.
class tenant_reloader {
public:
  /// `keys` outlives this. `running`: what the server was started with.
  tenant_reloader(settings_source source, config::settings running,
                  std::shared_ptr<actors::tenant_registry> tenants, kept_ledger ledger,
                  key_watch& keys);
  /// Reloads when the file is another than before and has been left alone since the last look.
  void look();
  void reload();
  /// What applies, as YAML; hashes of keys are shortened to what put() knows them by.
  std::string show() const;
  /// As reload(), with a text in place of the file; see gateway::configuration.
  gateway::config_outcome put(std::string text, bool save);

private:
  file_stamp stamp_now() const;
  caf::error apply(const config::settings& next);
  caf::error restore_hashes(std::string& text) const;
  caf::error write_file(const std::string& text);

  settings_source source_;
  config::settings running_; ///< what applies
  std::shared_ptr<actors::tenant_registry> tenants_;
  kept_ledger ledger_;
  key_watch& keys_;
  file_stamp applied_, seen_;
};

} // namespace troupe::cli
