#pragma once
#include <filesystem>

#include "config/settings.hpp"
#include "storage/store/pull.hpp"

namespace troupe::cli {

/// The directory of fetched models: `store_dir`, else troupe/models under XDG_DATA_HOME or
/// ~/.local/share.
std::filesystem::path store_dir_of(const config::settings& settings);

/// The hub cache that downloads go to, whether its models are served or not.
std::filesystem::path hub_cache_of(const config::settings& settings);

storage::pull_setup pull_setup_of(const config::settings& settings);

} // namespace troupe::cli
