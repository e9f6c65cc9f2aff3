#include "cli/remote_models.hpp"

#include <algorithm>

#include "cli/pull_setup.hpp"
#include "config/errors.hpp"
#include "storage/model_dir.hpp"
#include "storage/store/gguf_heads.hpp"

namespace troupe::cli {

namespace {

/// References as `parse_origin` takes them.
std::string one_text(const std::vector<std::string>& references) {
  std::string out;
  for (const auto& one : references)
    out += (out.empty() ? "" : "\n") + one;
  return out;
}

/// Why no model was found at a place of this machine.
std::string why_none_in(const std::filesystem::path& path) {
  const auto files = storage::gguf_files_below(path);
  const auto chosen = storage::choose_gguf(files, {}, path.string());
  return files.empty() || chosen ? path.string() + " is no directory with a model, nor a GGUF file"
                                 : describe(chosen.error());
}

} // namespace

storage::model_source model_at(const storage::model_origin& from, const std::string& name,
                               const storage::pull_setup& how) {
  storage::model_source out;
  out.id = {name};
  auto found = storage::find_pulled(
      {.from = from.from, .name = name, .include = {}, .mirrors = from.mirrors}, how);
  out.dir = std::move(found.path);
  if (out.dir.empty()) {
    out.origin = to_string(from);
    return out;
  }
  out.weight_bytes = found.look.weight_bytes;
  out.architecture = std::move(found.look.architecture);
  out.modified = found.look.modified;
  return out;
}

caf::expected<std::vector<storage::model_source>>
configured_models(const config::settings& settings,
                  const std::vector<storage::model_source>& found) {
  std::vector<storage::model_source> out;
  const auto how = pull_setup_of(settings);
  for (const auto& [name, given] : settings.models) {
    if (!given.source || given.source->empty())
      continue;
    if (std::ranges::any_of(found, [&](const auto& x) { return x.id.text == name; })) {
      storage::drop_gguf_heads(how.store_dir, name);
      continue;
    }
    const auto from = storage::parse_origin(one_text(*given.source));
    if (!from)
      return caf::make_error(config::errc::invalid_value,
                             "models." + name + ".source: " + describe(from.error()));
    auto model = model_at(*from, name, how);
    if (from->from.kind == storage::location_kind::file && model.dir.empty())
      return caf::make_error(config::errc::invalid_value,
                             "models." + name + ".source: " + why_none_in(from->from.path));
    if (!model.dir.empty())
      storage::drop_gguf_heads(how.store_dir, name);
    out.push_back(std::move(model));
  }
  return out;
}

} // namespace troupe::cli
