#pragma once
#include <filesystem>
#include <map>
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

/// The models of a node.
struct served_models : storage::catalog {
  std::map<model_id, std::filesystem::path>
      drafts; ///< where the draft models of those with one are
};

/// Finds models in `named` (directories, GGUF files, references as storage::parse_location takes
/// them, or names of models as choose_model does), in the settings' directories (./models if there
/// are neither), in the store and in the hub cache, and those with a `source` in the settings. With
/// names, references or `named_alone`, only those models and the named directories' remain. Fails
/// naming what was asked for and is not there.
caf::expected<served_models> find_served(const config::settings& settings,
                                         std::vector<std::string> named, bool named_alone = false);

actors::node_options node_options_of(const config::settings& settings, const served_models& served);
gateway::server_options server_options_of(const config::settings& settings);

} // namespace troupe::cli
