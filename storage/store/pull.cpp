#include "storage/store/pull.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <iterator>
#include <optional>
#include <thread>

#include "storage/errors.hpp"
#include "storage/gguf_files.hpp"
#include "storage/safetensors.hpp"
#include "storage/sources/hub_source.hpp"
#include "storage/sources/mirror_source.hpp"
#include "storage/sources/open_source.hpp"
#include "storage/store/download.hpp"
#include "storage/store/file_selection.hpp"
#include "storage/store/files.hpp"
#include "storage/store/gguf_heads.hpp"
#include "storage/store/in_use.hpp"
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

/// All places that may hold the model, in the order in which they count.
std::vector<location> places_of(const pull_request& what) {
  std::vector<location> out{what.from};
  out.insert(out.end(), what.mirrors.begin(), what.mirrors.end());
  return out;
}

caf::expected<std::shared_ptr<mirror_source>> open_all(const pull_request& what,
                                                       const pull_setup& how) {
  std::vector<std::shared_ptr<source>> all;
  for (const auto& place : places_of(what)) {
    auto one = open_source(place, how.over);
    if (!one)
      return std::move(one.error());
    all.push_back(std::move(*one));
  }
  const auto places = all.size();
  all.insert(all.end(), what.beside.begin(), what.beside.end());
  return std::make_shared<mirror_source>(std::move(all), how.warn, places);
}

/// The layout that belongs to the source which says what the files are.
caf::expected<std::unique_ptr<model_layout>> layout_for(const pull_request& what,
                                                        const pull_setup& how, mirror_source& from,
                                                        const std::stop_token& stop) {
  const auto places = places_of(what);
  const auto& place = places[from.primary()];
  if (place.kind != location_kind::hub)
    return make_store_layout(how.store_dir, name_of(what), place, places);
  const auto commit = dynamic_cast<hub_source&>(from.primary_source()).commit(stop);
  if (!commit)
    return commit.error();
  return make_hub_layout(how.hub_cache, place, *commit);
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

/// Which GGUF model is meant at `place`: what is said there, else what is said first.
const gguf_choice& choice_at(const pull_request& what, const location& place) {
  return place.gguf.empty() ? what.from.gguf : place.gguf;
}

caf::expected<std::vector<source_file>> wanted_files(const pull_request& what,
                                                     const pull_setup& how, mirror_source& from,
                                                     const std::stop_token& stop) {
  auto listed =
      with_retries<std::vector<source_file>>(how.retries, stop, [&] { return from.list(stop); });
  if (!listed)
    return std::move(listed.error());
  const auto places = places_of(what);
  auto chosen = files_to_serve(std::move(*listed), what.include, from.name(),
                               choice_at(what, places[from.primary()]));
  if (!chosen)
    return std::move(chosen.error());
  return ordered(std::move(*chosen));
}

/// A directory of this machine, as it is.
caf::expected<pulled_model> use_in_place(const pull_request& what, source& from) {
  auto files = from.list({});
  if (!files)
    return std::move(files.error());
  const auto& dir = what.from.path;
  const auto found = find_sole_model(dir, what.from.gguf).path;
  pulled_model out{.name = name_of(what), .dir = dir, .path = found.empty() ? dir : found};
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
  const auto found = find_pulled(what, how);
  if (found.path.empty())
    return caf::make_error(errc::not_found,
                           what.from.text + " is not complete in " + how.hub_cache.string() +
                               ", and HF_HUB_OFFLINE forbids to fetch it: unset that variable");
  return pulled_model{.name = name_of(what),
                      .dir = model_root(found.path),
                      .path = found.path,
                      .total_bytes = found.look.weight_bytes,
                      .weight_bytes = found.look.weight_bytes};
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

caf::error read_beginning(const disk_file& file, std::span<std::byte> into) {
  for (size_t at = 0; at < into.size();) {
    const auto got =
        ::pread(file.buffered_fd(), into.data() + at, into.size() - at, static_cast<off_t>(at));
    if (got <= 0)
      return caf::make_error(errc::unreadable, file.path().string() + ": cannot be read");
    at += static_cast<size_t>(got);
  }
  return {};
}

/// Waits for the head of a file in safetensors: what tells where its tensors lie.
caf::error wait_for_head(const arrival& file, const std::stop_token& stop) {
  std::array<std::byte, 8> first{};
  if (auto why = file.wait({0, first.size()}, stop))
    return why;
  const auto opened = file.file();
  if (auto why = read_beginning(*opened, first))
    return why;
  const auto bytes = safetensors_head_bytes(first, opened->size_bytes(), opened->path().string());
  return bytes ? file.wait({0, *bytes}, stop) : bytes.error();
}

/// The same of a GGUF file.
caf::error wait_for_gguf_head(const arrival& file, const std::stop_token& stop) {
  if (auto why = file.wait({0, 1}, stop))
    return why;
  const auto opened = file.file();
  const auto read = [&](std::span<std::byte> into) -> caf::error {
    if (auto why = file.wait({0, into.size()}, stop))
      return why;
    return read_beginning(*opened, into);
  };
  const auto head = gguf_head::read(read, opened->size_bytes(), opened->path().string());
  return head ? caf::error{} : head.error();
}

/// Lets a model be opened whose weights are on their way, as soon as that can be done.
void open_early(download& all, model_layout& layout,
                const std::shared_ptr<const arriving_model>& model, const early_opening& early,
                const std::stop_token& stop) {
  if (!all.wait_for_small(stop))
    return;
  for (const auto& file : model->files())
    if (is_gguf(file->place()) ? wait_for_gguf_head(*file, stop) : wait_for_head(*file, stop))
      return;
  auto small = all.files();
  std::erase_if(small, [](const source_file& x) { return is_weight_file(x.path); });
  if (!layout.publish(small, stop))
    early(model);
}

/// Runs a download; what comes of its `files` shows meanwhile.
caf::error run_shown(download& all, model_layout& layout, const std::filesystem::path& opens,
                     uint64_t weight_bytes, std::vector<std::shared_ptr<arrival>> files,
                     const early_opening& early, const std::stop_token& stop) {
  const auto model = std::make_shared<arriving_model>(opens, weight_bytes, std::move(files));
  model->fetched_by([&all](const auto& order) { all.prefer(order); });
  std::optional<std::thread> opener;
  if (early && !model->files().empty())
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

/// Asks the mirrors for what is to be fetched; nothing is asked of them when all is here.
std::vector<source_file> matched(mirror_source& from, const model_layout& to,
                                 std::vector<source_file> files, bool weights,
                                 const std::stop_token& stop) {
  const auto first_here = std::ranges::stable_partition(files, [&](const source_file& x) {
    return !to.has(x) && (weights || !is_weight_file(x.path));
  });
  std::vector<source_file> wanted{files.begin(), first_here.begin()};
  if (!wanted.empty())
    std::ranges::copy(from.match(std::move(wanted), stop), files.begin());
  return ordered(std::move(files));
}

/// What the files are read from: the sources, and nodes that read the same from them.
std::shared_ptr<source> shared_among(std::shared_ptr<source> from, const pull_request& what,
                                     const pull_setup& how) {
  if (what.together.members.empty())
    return from;
  return std::make_shared<group_source>(
      std::move(from), what.together,
      group_options{.part_bytes = how.part_bytes, .warn = how.warn, .offered = is_weight_file});
}

/// Whether others than the places that a user named may give parts.
bool has_helpers(const pull_request& what) {
  return !what.mirrors.empty() || !what.beside.empty() || !what.together.members.empty();
}

/// What will open the model in `dir` once `files` are in it.
std::filesystem::path path_of(const std::vector<source_file>& files,
                              const std::filesystem::path& dir) {
  for (const auto& file : files)
    if (is_gguf(file.path))
      return gguf_parts(dir / file.path).front();
  return dir;
}

/// A GGUF model says in its weight files what it is: brings the heads of those here alone.
caf::error fetch_heads(source& from, const std::vector<source_file>& files, const pull_setup& how,
                       pulled_model& out, const std::stop_token& stop) {
  const auto path = fetch_gguf_heads(from, files, how, out.name, stop);
  if (!path)
    return advised(path.error(), true);
  out.path = *path / out.path.filename();
  return {};
}

} // namespace

caf::expected<pulled_model> pull(const pull_request& what, const pull_setup& how,
                                 const pull_observer& observer, std::stop_token stop,
                                 const early_opening& early) {
  if (what.from.kind == location_kind::file) {
    const auto here = open_source(what.from, how.over);
    return here ? use_in_place(what, **here) : here.error();
  }
  auto from = open_all(what, how);
  if (!from)
    return std::move(from.error());
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
  auto part = file_lock::lock(part_lock((*layout)->use_lock()), file_lock::mode::shared, stop);
  if (!part)
    return std::move(part.error());
  pulled_model out{.name = name_of(what), .dir = (*layout)->model_dir()};
  out.path = path_of(*files, out.dir);
  const auto shared = shared_among(*from, what, how);
  download all{*shared, **layout, how, observer};
  std::vector<std::shared_ptr<arrival>> coming;
  std::vector<coming_file> named;
  if (has_helpers(what))
    *files = matched(**from, **layout, std::move(*files), what.weights, stop);
  for (const auto& file : *files) {
    const bool weights = is_weight_file(file.path);
    out.weight_bytes += weights ? file.size_bytes : 0;
    if (weights && !what.weights)
      continue;
    out.total_bytes += file.size_bytes;
    ++out.files;
    if (auto shown = all.add(file, weights && (early || what.coming))) {
      if (!common_version(file).empty())
        named.push_back({file, shown});
      coming.push_back(std::move(shown));
    }
  }
  if (auto why = check_space(**layout, all.missing_bytes(), what.from.text))
    return why;
  if (what.coming && !named.empty())
    what.coming(named);
  if (auto why =
          run_shown(all, **layout, out.path, out.weight_bytes, std::move(coming), early, stop))
    return why;
  if (!what.weights && is_gguf(out.path))
    if (auto why = fetch_heads(**from, *files, how, out, stop))
      return why;
  out.fetched_bytes = all.progress().fetched_bytes;
  if (has_helpers(what))
    for (const auto& one : (*from)->shares())
      out.shares.emplace_back(one.name, one.bytes);
  return out;
}

sole_model find_pulled(const pull_request& what, const pull_setup& how) {
  for (const auto& place : places_of(what)) {
    std::filesystem::path dir;
    if (place.kind == location_kind::file)
      dir = place.path;
    else if (place.kind == location_kind::hub)
      dir = cached_snapshot(how.hub_cache, place);
    else if (auto layout = make_store_layout(how.store_dir, name_of(what), place, places_of(what)))
      dir = (*layout)->model_dir();
    if (auto found = dir.empty() ? sole_model{} : find_sole_model(dir, choice_at(what, place));
        !found.path.empty())
      return found;
  }
  return {};
}

caf::expected<model_origin> parse_origin(std::string_view text) {
  std::vector<location> all;
  while (true) {
    const auto end = std::min(text.find('\n'), text.size());
    auto one = parse_location(text.substr(0, end));
    if (!one)
      return std::move(one.error());
    all.push_back(std::move(*one));
    if (all.size() > 1 &&
        (all.front().kind == location_kind::file || all.back().kind == location_kind::file))
      return caf::make_error(errc::bad_reference, all.back().text +
                                                      ": a directory of this machine cannot be "
                                                      "one of several sources");
    if (end == text.size())
      break;
    text.remove_prefix(end + 1);
  }
  model_origin out{std::move(all.front()), {}};
  out.mirrors.assign(std::make_move_iterator(all.begin() + 1), std::make_move_iterator(all.end()));
  return out;
}

std::string to_string(const model_origin& origin) {
  return joined(origin, "\n", [](const location& x) { return x.whole_text; });
}

} // namespace troupe::storage
