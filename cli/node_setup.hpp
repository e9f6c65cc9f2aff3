#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "actors/node.hpp"
#include "config/settings.hpp"
#include "gateway/server.hpp"
#include "storage/catalog.hpp"

/// Settings -> the options of a node and of its gateway.
namespace troupe::cli {

/// True if the model at `dir` is one of `named` (directories and GGUF files) or below one.
bool within(const std::filesystem::path& dir, const std::vector<std::string>& named);

/// Finds models in `named` (directories, GGUF files, references as storage::parse_location takes
/// them, or names of models as choose_model does), in the settings' directories (./models if there
/// are neither), in the store and in the hub cache, and those with a `source` in the settings. With
/// names, references or `named_alone`, only those models and the named directories' remain. Fails
/// naming what was asked for and is not there.
caf::expected<storage::catalog> find_served(const config::settings& settings,
                                            std::vector<std::string> named,
                                            bool named_alone = false);

actors::node_options node_options_of(const config::settings& settings,
                                     std::vector<storage::model_source> models);
gateway::server_options server_options_of(const config::settings& settings);

} // namespace troupe::cli
