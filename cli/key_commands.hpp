#pragma once
#include <string>
#include <vector>

#include "config/settings.hpp"

/// `troupe keys ...`: keys of the API. Each returns an exit code.
namespace troupe::cli {

struct key_options {
  std::string tenant;
  bool admin = false; ///< create: the administrator's instead of a tenant's
  std::string name;
  std::string expires;             ///< as parse_moment takes it; empty = never
  std::vector<std::string> models; ///< create: names or globs, of what the tenant may use
  bool print_only = false;         ///< create: for the configuration file, stored nowhere
  std::string id;                  ///< revoke
  bool json = false;
};

/// Makes a key, prints it once, and keeps its hash where the servers of these settings look. With
/// `print_only`, where nothing is kept (state_dir: false), or where no tenant is configured yet, it
/// prints the lines that make the key known instead.
int create_key(const config::settings& settings, const key_options& options);
/// The same with nothing configured.
int print_key(const key_options& options);
/// Those that are kept, of one tenant if it is named. Never the keys themselves.
int list_keys(const config::settings& settings, const key_options& options);
int revoke_key(const config::settings& settings, const key_options& options);

} // namespace troupe::cli
