#include "cli/model_choice.hpp"

#include <algorithm>

#include "base/text.hpp"
#include "config/errors.hpp"
#include "config/keys.hpp"

namespace troupe::cli {
namespace {

std::string last_part(const std::string& id) {
  const auto slash = id.rfind('/');
  return ascii_lower(slash == std::string::npos ? id : id.substr(slash + 1));
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
  if (found.empty())
    return unknown(models, name);
  std::string text = "'" + name + "' could be";
  for (size_t i = 0; i < found.size(); ++i)
    text += (i == 0 ? " " : " or ") + found[i]->id.text;
  return caf::make_error(config::errc::invalid_value, text + ": write the whole name");
}

} // namespace troupe::cli
