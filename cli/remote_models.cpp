#include "cli/remote_models.hpp"

#include <algorithm>

#include "cli/pull_setup.hpp"
#include "config/errors.hpp"
#include "storage/model_dir.hpp"

namespace troupe::cli {

storage::model_source model_at(const storage::location& from, const std::string& name,
                               const storage::pull_setup& how) {
  storage::model_source out;
  out.id = {name};
  out.dir = storage::find_pulled({from, name, {}}, how);
  if (out.dir.empty()) {
    out.origin = from.whole_text;
    return out;
  }
  auto look = storage::inspect_model_dir(out.dir);
  out.weight_bytes = look.weight_bytes;
  out.architecture = std::move(look.architecture);
  out.modified = look.modified;
  return out;
}

caf::expected<std::vector<storage::model_source>>
configured_models(const config::settings& settings,
                  const std::vector<storage::model_source>& found) {
  std::vector<storage::model_source> out;
  const auto how = pull_setup_of(settings);
  for (const auto& [name, given] : settings.models) {
    if (!given.source ||
        std::ranges::any_of(found, [&](const auto& x) { return x.id.text == name; }))
      continue;
    const auto from = storage::parse_location(*given.source);
    if (!from)
      return caf::make_error(config::errc::invalid_value,
                             "models." + name + ".source: " + describe(from.error()));
    auto model = model_at(*from, name, how);
    if (from->kind == storage::location_kind::file && model.dir.empty())
      return caf::make_error(config::errc::invalid_value, "models." + name +
                                                              ".source: " + from->path.string() +
                                                              " is no directory with a model");
    out.push_back(std::move(model));
  }
  return out;
}

} // namespace troupe::cli
