#pragma once
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "config/settings.hpp"

namespace troupe::config {

/// Settings, and where each that is not a default came from ("troupe.yaml:3:1", "TROUPE_LISTEN",
/// "flag for listen"), by key path.
struct loaded_settings {
  settings values;
  std::map<std::string, std::string> origins;
};

using environment = std::function<std::optional<std::string>(const std::string& name)>;
/// Reads the process's environment.
std::optional<std::string> process_environment(const std::string& name);

/// Key path and text of values given on the command line; lists are separated by commas.
using flags = std::vector<std::pair<std::string, std::string>>;

/// A flag beats the environment (TROUPE_*), which beats the file, which beats the default. Errors
/// begin with file:line:column, the variable's name or the flag's, and say what to write instead.
caf::expected<loaded_settings> load_settings(const std::optional<std::filesystem::path>& file,
                                             const environment& variables, const flags& given);

/// Every problem of one file, "file:line:column: what", in file order; empty when it is fine.
std::vector<std::string> check_file(const std::filesystem::path& file);

/// The JSON Schema of troupe.yaml, made from the key table: the text of config/troupe.schema.json.
std::string json_schema();

} // namespace troupe::config
