#include "config/load.hpp"

#include "config/errors.hpp"
#include "config/keys.hpp"
#include "config/layers.hpp"

namespace troupe::config {

namespace {

caf::expected<loaded_settings>
load_rest(layers& all, const std::map<std::string, std::string>& variables, const flags& given) {
  all.environment(variables);
  for (const auto& [flag, path, texts] : given) {
    const auto* key = find_key(path);
    if (!key || texts.empty())
      return caf::make_error(errc::invalid_value,
                             flag + " sets nothing: there is no '" + path + "'");
    if (is_list(key->type))
      all.flag(flag, path, texts);
    else
      all.flag(flag, path, texts.back());
  }
  all.check();
  if (all.problems().empty()) {
    loaded_settings result{all.values(), all.origins(), {}};
    for (const auto& note : all.notes())
      result.notes.push_back(to_string(note));
    return result;
  }
  std::string text;
  for (const auto& one : all.problems())
    text += (text.empty() ? "" : "\n") + to_string(one);
  return caf::make_error(errc::invalid_value, text);
}

} // namespace

caf::expected<loaded_settings> load_settings(const std::optional<std::filesystem::path>& file,
                                             const std::map<std::string, std::string>& variables,
                                             const flags& given) {
  layers all;
  if (file)
    all.file(*file);
  return load_rest(all, variables, given);
}

caf::expected<loaded_settings> load_settings(const document& file,
                                             const std::map<std::string, std::string>& variables,
                                             const flags& given) {
  layers all;
  all.file(file.text, file.name, file.folder);
  return load_rest(all, variables, given);
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
