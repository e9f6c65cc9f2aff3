#include "config/load.hpp"

#include <cstdlib>

#include "config/errors.hpp"
#include "config/keys.hpp"
#include "config/layers.hpp"

namespace troupe::config {

std::optional<std::string> process_environment(const std::string& name) {
  const char* found = std::getenv(name.c_str());
  return found ? std::optional<std::string>{found} : std::nullopt;
}

caf::expected<loaded_settings> load_settings(const std::optional<std::filesystem::path>& file,
                                             const environment& variables, const flags& given) {
  layers all;
  if (file)
    all.file(*file);
  std::map<std::string, std::string> set;
  for (const auto& key : node_keys())
    if (auto text = variables(environment_name(key.path)))
      set.emplace(environment_name(key.path), std::move(*text));
  all.environment(set);
  for (const auto& [path, text] : given) {
    if (!find_key(path))
      return caf::make_error(errc::invalid_value, "there is no setting '" + path + "'");
    all.flag("flag for " + path, path, text);
  }
  all.check();
  if (all.problems().empty())
    return loaded_settings{all.values(), all.origins()};
  std::string text;
  for (const auto& one : all.problems())
    text += (text.empty() ? "" : "\n") + to_string(one);
  return caf::make_error(errc::invalid_value, text);
}

std::vector<std::string> check_file(const std::filesystem::path& file) {
  layers alone;
  alone.file(file);
  alone.check();
  std::vector<std::string> lines;
  for (const auto& one : alone.problems())
    lines.push_back(to_string(one));
  return lines;
}

} // namespace troupe::config
