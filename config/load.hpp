#pragma once
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "config/settings.hpp"

namespace troupe::config {

struct loaded_settings {
  settings values;
  /// Where each that is not a default came from ("troupe.yaml:3:1", "TROUPE_LISTEN", "--threads"),
  /// by key path.
  std::map<std::string, std::string> origins;
  /// Worth telling, no reason to refuse.
  std::vector<std::string> notes;
};

/// A setting given on the command line.
struct flag_value {
  std::string flag;               ///< as typed, for messages: "--threads"
  std::string path;               ///< the key
  std::vector<std::string> texts; ///< one, or a list's items
};
using flags = std::vector<flag_value>;

/// A configuration file that is not on the disk.
struct document {
  std::string text;
  std::string name;             ///< goes into messages
  std::filesystem::path folder; ///< relative paths count from it
};

/// A flag beats the environment (TROUPE_*), which beats the file, which beats the default. Errors
/// begin with file:line:column, the variable's name or the flag's, and say what to write instead.
caf::expected<loaded_settings> load_settings(const std::optional<std::filesystem::path>& file,
                                             const std::map<std::string, std::string>& variables,
                                             const flags& given);

caf::expected<loaded_settings> load_settings(const document& file,
                                             const std::map<std::string, std::string>& variables,
                                             const flags& given);

/// Every problem of one file, "file:line:column: what", in file order; empty when it is fine.
std::vector<std::string> check_file(const std::filesystem::path& file);

/// The JSON Schema of troupe.yaml, made from the key table: the text of config/troupe.schema.json.
std::string json_schema();

} // namespace troupe::config
