#include "cli/model_choice.hpp"

#include <algorithm>
#include <optional>

#include "base/text.hpp"
#include "config/errors.hpp"
#include "config/keys.hpp"
#include "storage/gguf_choice.hpp"
#include "storage/gguf_files.hpp"

namespace troupe::cli {
namespace {

std::string last_part(const std::string& id) {
  const auto slash = id.rfind('/');
  return ascii_lower(slash == std::string::npos ? id : id.substr(slash + 1));
}

/// A GGUF model of a repository or folder, by that one's name and perhaps a quantization:
/// "org/name:Q4_K_M". Nothing if `name` is of no such kind.
std::optional<caf::expected<storage::model_source>>
gguf_in(const std::vector<storage::model_source>& models, const std::string& name) {
  const auto colon = std::min(name.rfind(':'), name.size());
  const auto begin = name.substr(0, colon) + "/";
  const auto tag = name.substr(std::min(colon + 1, name.size()));
  std::vector<std::string> paths;
  for (const auto& model : models)
    if (model.id.text.starts_with(begin) && storage::is_gguf(model.dir))
      paths.push_back(model.id.text.substr(begin.size()) + ".gguf");
  if (paths.empty())
    return std::nullopt;
  const auto chosen = storage::choose_gguf(paths, {.tag = tag, .file = {}}, name);
  if (!chosen)
    return caf::expected<storage::model_source>{
        caf::make_error(config::errc::invalid_value, describe(chosen.error()))};
  const auto id = begin + chosen->substr(0, chosen->size() - std::string_view{".gguf"}.size());
  return caf::expected<storage::model_source>{
      *std::ranges::find(models, id, [](const auto& x) { return x.id.text; })};
}

caf::error unknown(const std::vector<storage::model_source>& models, const std::string& name) {
  if (name.ends_with(".gguf"))
    return caf::make_error(config::errc::invalid_value, "there is no file " + name);
  if (looks_like_path(name))
    return caf::make_error(config::errc::invalid_value, "there is no directory " + name);
  std::string text = "there is no model '" + name + "'";
  if (models.empty())
    return caf::make_error(config::errc::invalid_value,
                           text + ", nor any other: give the path of a model's directory");
  std::vector<std::string> parts;
  for (const auto& model : models)
    parts.push_back(last_part(model.id.text));
  const std::vector<std::string_view> names(parts.begin(), parts.end());
  const auto near = config::closest(last_part(name), names);
  const auto at = std::ranges::find(names, near);
  if (!near.empty() && at != names.end())
    return caf::make_error(config::errc::invalid_value,
                           text + ": did you mean '" + models[at - names.begin()].id.text + "'?");
  text += ": there are ";
  for (size_t i = 0; i < std::min<size_t>(models.size(), 5); ++i)
    text += (i == 0 ? "" : ", ") + models[i].id.text;
  if (models.size() > 5)
    text += " and " + std::to_string(models.size() - 5) + " more";
  return caf::make_error(config::errc::invalid_value, text);
}

} // namespace

bool looks_like_path(const std::string& name) {
  return name.starts_with('.') || name.starts_with('/') || name.starts_with('~') ||
         name.ends_with('/');
}

caf::expected<storage::model_source> choose_model(const std::vector<storage::model_source>& models,
                                                  const config::settings& settings,
                                                  const std::string& name) {
  for (const auto& model : models)
    if (model.id.text == name)
      return model;
  for (const auto& model : models) {
    const auto given = config::settings_for(settings, model.id.text);
    if (given.aliases && std::ranges::find(*given.aliases, name) != given.aliases->end())
      return model;
  }
  std::vector<const storage::model_source*> found;
  for (const auto& model : models)
    if (last_part(model.id.text) == ascii_lower(name))
      found.push_back(&model);
  if (found.size() == 1)
    return *found.front();
  if (found.empty()) {
    auto one = gguf_in(models, name);
    return one ? std::move(*one) : unknown(models, name);
  }
  std::string text = "'" + name + "' could be";
  for (size_t i = 0; i < found.size(); ++i)
    text += (i == 0 ? " " : " or ") + found[i]->id.text;
  return caf::make_error(config::errc::invalid_value, text + ": write the whole name");
}

} // namespace troupe::cli
