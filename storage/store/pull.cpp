#include "storage/store/pull.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <optional>
#include <thread>

#include "storage/errors.hpp"
#include "storage/model_dir.hpp"
#include "storage/safetensors.hpp"
#include "storage/sources/open_source.hpp"
#include "storage/store/download.hpp"
#include "storage/store/file_selection.hpp"
#include "storage/store/files.hpp"
#include "storage/store/layout.hpp"

namespace troupe::storage {

namespace {

std::string size_text(uint64_t bytes) {
  const double gib = static_cast<double>(bytes) / (1 << 30);
  auto text = std::to_string(gib);
  text.resize(text.find('.') + 3);
  return text + " GiB";
}

std::string name_of(const pull_request& what) {
  return what.name.empty() ? what.from.model_name : what.name;
}

/// Files to fetch: the small ones first, so that a model is understood before its weights come.
std::vector<source_file> ordered(std::vector<source_file> files) {
  std::ranges::stable_sort(files, {}, [](const source_file& x) { return is_weight_file(x.path); });
  return files;
}

caf::expected<std::unique_ptr<model_layout>> layout_for(const pull_request& what,
                                                        const pull_setup& how, source& from,
                                                        const std::stop_token& stop) {
  if (what.from.kind != location_kind::hub)
    return make_store_layout(how.store_dir, name_of(what), what.from);
  const auto commit = dynamic_cast<hub_source&>(from).commit(stop);
  if (!commit)
    return commit.error();
  return make_hub_layout(how.hub_cache, what.from, *commit);
}

caf::error check_space(const model_layout& layout, uint64_t needed, const std::string& origin) {
  const auto room = free_bytes(layout.model_dir());
  if (!room || *room >= needed)
    return {}; // a file system that does not say will do so when it is full
  return caf::make_error(errc::no_space, "fetching " + origin + " needs " + size_text(needed) +
                                             " in " + layout.model_dir().parent_path().string() +
                                             ", where " + size_text(*room) +
                                             " are free: make room (`troupe rm MODEL`, `troupe "
                                             "df`), or use another directory");
}

caf::expected<std::vector<source_file>> wanted_files(const pull_request& what,
                                                     const pull_setup& how, source& from,
                                                     const std::stop_token& stop) {
  auto listed =
      with_retries<std::vector<source_file>>(how.retries, stop, [&] { return from.list(stop); });
  if (!listed)
    return std::move(listed.error());
  auto chosen = files_to_serve(std::move(*listed), what.include, from.name());
  if (!chosen)
    return std::move(chosen.error());
  return ordered(std::move(*chosen));
}

/// A directory of this machine, as it is.
caf::expected<pulled_model> use_in_place(const pull_request& what, source& from) {
  auto files = from.list({});
  if (!files)
    return std::move(files.error());
  pulled_model out{.name = name_of(what), .dir = what.from.path};
  for (const auto& file : *files) {
    out.total_bytes += file.size_bytes;
    out.weight_bytes += is_weight_file(file.path) ? file.size_bytes : 0;
  }
  out.files = files->size();
  return out;
}

/// The wish of the environment that no hub be asked, as the hub's own client reads it.
bool offline() {
  const char* value = std::getenv("HF_HUB_OFFLINE");
  if (value == nullptr)
    return false;
  std::string text{value};
  std::ranges::transform(text, text.begin(), [](char c) {
    return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
  });
  return text == "1" || text == "ON" || text == "YES" || text == "TRUE";
}

caf::expected<pulled_model> from_cache_alone(const pull_request& what, const pull_setup& how) {
  const auto dir = find_pulled(what, how);
  if (dir.empty())
    return caf::make_error(errc::not_found,
                           what.from.text + " is not complete in " + how.hub_cache.string() +
                               ", and HF_HUB_OFFLINE forbids to fetch it: unset that variable");
  const auto look = inspect_model_dir(dir);
  return pulled_model{.name = name_of(what),
                      .dir = dir,
                      .total_bytes = look.weight_bytes,
                      .weight_bytes = look.weight_bytes};
}

/// What to do about an error is the same for all files.
caf::error advised(caf::error why, bool begun) {
  const char* advice = nullptr;
  if (why == errc::unavailable)
    advice = begun ? "what has come is kept: the same command goes on from there"
                   : "is the network up, and the address right? Else try again later";
  else if (why == errc::corrupted)
    advice = "the source, or something on the way to it, damages files: try again later";
  else if (why == errc::changed)
    advice = "the model is being replaced at its source: try again later";
  else
    return why;
  return caf::make_error(static_cast<errc>(why.code()), describe(why) + "; " + advice);
}

/// Waits for the head of a file in safetensors: what tells where its tensors lie.
caf::error wait_for_head(const arrival& file, const std::stop_token& stop) {
  std::array<std::byte, 8> first{};
  if (auto why = file.wait({0, first.size()}, stop))
    return why;
  const auto opened = file.file();
  if (::pread(opened->buffered_fd(), first.data(), first.size(), 0) != ssize_t{first.size()})
    return caf::make_error(errc::unreadable, opened->path().string() + ": cannot be read");
  const auto bytes = safetensors_head_bytes(first, opened->size_bytes(), opened->path().string());
  return bytes ? file.wait({0, *bytes}, stop) : bytes.error();
}

/// Lets a model be opened whose weights are on their way, as soon as that can be done.
void open_early(download& all, model_layout& layout,
                const std::shared_ptr<const arriving_model>& model, const early_opening& early,
                const std::stop_token& stop) {
  for (const auto& file : model->files())
    if (!file->place().native().ends_with(".safetensors"))
      return;
  if (!all.wait_for_small(stop))
    return;
  for (const auto& file : model->files())
    if (wait_for_head(*file, stop))
      return;
  auto small = all.files();
  std::erase_if(small, [](const source_file& x) { return is_weight_file(x.path); });
  if (!layout.publish(small, stop))
    early(model);
}

/// Runs a download; what comes of its `files` shows meanwhile.
caf::error run_shown(download& all, model_layout& layout, uint64_t weight_bytes,
                     std::vector<std::shared_ptr<arrival>> files, const early_opening& early,
                     const std::stop_token& stop) {
  const auto model =
      std::make_shared<arriving_model>(layout.model_dir(), weight_bytes, std::move(files));
  model->fetched_by([&all](const auto& order) { all.prefer(order); });
  std::optional<std::thread> opener;
  if (!model->files().empty())
    opener.emplace([&] { open_early(all, layout, model, early, stop); });
  auto why = all.run(stop);
  if (why) {
    why = advised(std::move(why), true);
    model->fail(why);
  }
  model->fetched_by({});
  if (opener)
    opener->join();
  if (!why)
    why = layout.publish(all.files(), stop);
  for (const auto& file : model->files())
    why ? file->fail(why) : file->settled();
  return why;
}

} // namespace

caf::expected<pulled_model> pull(const pull_request& what, const pull_setup& how,
                                 const pull_observer& observer, std::stop_token stop,
                                 const early_opening& early) {
  auto from = open_source(what.from, how.over);
  if (!from)
    return std::move(from.error());
  if (what.from.kind == location_kind::file)
    return use_in_place(what, **from);
  if (what.from.kind == location_kind::hub && offline())
    return from_cache_alone(what, how);
  if (observer)
    observer({.phase = "looking up", .files = {}});
  auto files = wanted_files(what, how, **from, stop);
  if (!files)
    return advised(std::move(files.error()), false);
  auto layout = layout_for(what, how, **from, stop);
  if (!layout)
    return std::move(layout.error());
  // While it grows, nobody may remove it.
  auto use = file_lock::lock((*layout)->use_lock(), file_lock::mode::shared, stop);
  if (!use)
    return std::move(use.error());
  pulled_model out{.name = name_of(what), .dir = (*layout)->model_dir()};
  download all{**from, **layout, how, observer};
  std::vector<std::shared_ptr<arrival>> coming;
  for (const auto& file : *files) {
    const bool weights = is_weight_file(file.path);
    out.weight_bytes += weights ? file.size_bytes : 0;
    if (weights && !what.weights)
      continue;
    out.total_bytes += file.size_bytes;
    ++out.files;
    if (auto shown = all.add(file, weights && early))
      coming.push_back(std::move(shown));
  }
  if (auto why = check_space(**layout, all.missing_bytes(), what.from.text))
    return why;
  if (auto why = run_shown(all, **layout, out.weight_bytes, std::move(coming), early, stop))
    return why;
  out.fetched_bytes = all.progress().fetched_bytes;
  return out;
}

std::filesystem::path find_pulled(const pull_request& what, const pull_setup& how) {
  std::filesystem::path dir;
  if (what.from.kind == location_kind::file)
    dir = what.from.path;
  else if (what.from.kind == location_kind::hub)
    dir = cached_snapshot(how.hub_cache, what.from);
  else if (auto layout = make_store_layout(how.store_dir, name_of(what), what.from))
    dir = (*layout)->model_dir();
  if (dir.empty() || inspect_model_dir(dir).kind != model_dir::verdict::model)
    return {};
  return dir;
}

} // namespace troupe::storage
