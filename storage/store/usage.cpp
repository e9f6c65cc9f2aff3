#include "storage/store/usage.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <set>
#include <system_error>

#include "storage/errors.hpp"
#include "storage/gguf_files.hpp"
#include "storage/model_dir.hpp"
#include "storage/sources/hub_source.hpp"
#include "storage/store/file_lock.hpp"
#include "storage/store/in_use.hpp"
#include "storage/store/manifest.hpp"

namespace troupe::storage {

namespace {

namespace fs = std::filesystem;

constexpr int depth_max = 3;

struct disk_usage {
  uint64_t bytes = 0;
  uint64_t partial_bytes = 0;
};

/// What the files below `dir` take; links are not followed, and files with several names count
/// once.
disk_usage measure(const fs::path& dir) {
  disk_usage out;
  std::set<std::pair<dev_t, ino_t>> seen;
  std::error_code failed;
  for (fs::recursive_directory_iterator it(dir, failed), end; !failed && it != end;
       it.increment(failed)) {
    struct stat info {};
    if (::lstat(it->path().c_str(), &info) != 0 || !S_ISREG(info.st_mode) ||
        !seen.emplace(info.st_dev, info.st_ino).second)
      continue;
    const auto bytes = static_cast<uint64_t>(info.st_blocks) * 512;
    const auto name = it->path().filename().string();
    out.bytes += bytes;
    if (name.ends_with(".partial") || name.ends_with(".troupe-partial") ||
        name.ends_with(".incomplete"))
      out.partial_bytes += bytes;
  }
  return out;
}

bool is_locked(const fs::path& lock_file) {
  std::error_code failed;
  if (!fs::exists(lock_file, failed))
    return false;
  const auto free = file_lock::try_lock(lock_file, file_lock::mode::exclusive);
  return free && !*free;
}

/// The GGUF models in `roots`; of two with one name the first counts.
std::vector<stored_gguf> gguf_models(const std::vector<fs::path>& roots) {
  std::vector<stored_gguf> out;
  for (const auto& root : roots)
    for (const auto& file : gguf_files_below(root)) {
      const auto first = gguf_parts(file).front();
      const auto name = (first.parent_path() / gguf_model_name(first)).generic_string();
      if (is_gguf_companion(file) || std::ranges::find(out, name, &stored_gguf::name) != out.end())
        continue;
      stored_gguf one{.name = name, .file = first.generic_string()};
      for (const auto& part : gguf_parts(root / file))
        if (struct stat info{}; ::stat(part.c_str(), &info) == 0)
          one.disk_bytes += static_cast<uint64_t>(info.st_blocks) * 512;
      out.push_back(std::move(one));
    }
  std::ranges::sort(out, {}, &stored_gguf::name);
  return out;
}

bool holds_model(const fs::path& dir) {
  if (inspect_model_dir(dir).kind == model_dir::verdict::model)
    return true;
  const auto files = gguf_files_below(dir);
  return std::ranges::any_of(files, [&](const std::string& file) {
    return !is_gguf_companion(file) && inspect_gguf(dir / file).kind == model_dir::verdict::model;
  });
}

std::vector<fs::path> subdirectories(const fs::path& dir) {
  std::vector<fs::path> out;
  std::error_code failed;
  for (fs::directory_iterator it(dir, failed), end; !failed && it != end; it.increment(failed))
    if (std::error_code ignored; it->is_directory(ignored) && !it->is_symlink(ignored))
      out.push_back(it->path());
  std::ranges::sort(out);
  return out;
}

void add_store(const fs::path& dir, const std::string& name, int depth,
               std::vector<stored_model>& out) {
  std::error_code failed;
  if (!name.empty() && fs::is_directory(dir / ".troupe", failed)) {
    stored_model one{.name = name, .source = read_manifest(dir).source, .dir = dir};
    const auto used = measure(dir);
    one.disk_bytes = used.bytes;
    one.partial_bytes = used.partial_bytes;
    one.complete = holds_model(dir);
    one.in_use = is_locked(use_lock_of(dir));
    one.ggufs = gguf_models({dir});
    out.push_back(std::move(one));
    return;
  }
  if (depth == depth_max)
    return;
  for (const auto& below : subdirectories(dir)) {
    const auto part = below.filename().string();
    if (!part.starts_with('.'))
      add_store(below, name.empty() ? part : name + "/" + part, depth + 1, out);
  }
}

fs::path hub_lock(const fs::path& repository) {
  return repository.parent_path() / ".locks" / repository.filename() / "troupe-in-use.lock";
}

void add_hub(const fs::path& cache, std::vector<stored_model>& out) {
  constexpr std::string_view prefix = "models--";
  for (const auto& repository : subdirectories(cache)) {
    auto name = repository.filename().string();
    if (!name.starts_with(prefix) || name.size() == prefix.size())
      continue;
    name.erase(0, prefix.size());
    if (const auto at = name.find("--"); at != std::string::npos)
      name.replace(at, 2, "/");
    stored_model one{.name = name, .source = "hf://" + name, .dir = repository};
    const auto used = measure(repository);
    one.disk_bytes = used.bytes;
    one.partial_bytes = used.partial_bytes;
    const auto snapshots = subdirectories(repository / "snapshots");
    one.complete = std::ranges::any_of(snapshots, holds_model);
    one.ggufs = gguf_models(snapshots);
    one.in_use = is_locked(hub_lock(repository));
    out.push_back(std::move(one));
  }
}

caf::error failure(const fs::path& where, const std::error_code& why) {
  return caf::make_error(errc::unreadable,
                         where.string() + ": cannot be removed: " + why.message());
}

/// Aside first, so that nobody finds a half of it.
caf::error remove_tree(const fs::path& dir) {
  std::error_code failed;
  const auto aside = dir.parent_path() / ("." + dir.filename().string() + ".removed");
  fs::remove_all(aside, failed);
  fs::rename(dir, aside, failed);
  if (failed)
    return failure(dir, failed);
  fs::remove_all(aside, failed);
  return failed ? failure(aside, failed) : caf::error{};
}

/// Names of the blobs that the snapshots of a repository link.
std::set<std::string> linked_blobs(const fs::path& repository) {
  std::set<std::string> out;
  std::error_code failed;
  for (fs::recursive_directory_iterator it(repository / "snapshots", failed), end;
       !failed && it != end; it.increment(failed))
    if (std::error_code ignored; it->is_symlink(ignored))
      out.insert(fs::read_symlink(it->path(), ignored).filename().string());
  return out;
}

caf::expected<fs::path> snapshot_of(const fs::path& repository, const std::string& revision) {
  auto commit = revision;
  if (!is_hex_digest(commit, 40)) {
    commit = read_small_file(repository / "refs" / revision, 256);
    while (!commit.empty() && commit.back() <= ' ')
      commit.pop_back();
  }
  std::error_code failed;
  auto out = repository / "snapshots" / commit;
  if (!is_hex_digest(commit, 40) || !fs::is_directory(out, failed))
    return caf::make_error(errc::not_found,
                           repository.string() + ": has no snapshot of " + revision);
  return out;
}

caf::error remove_snapshot(const fs::path& repository, const fs::path& snapshot) {
  if (auto why = remove_tree(snapshot))
    return why;
  const auto commit = snapshot.filename().string();
  std::error_code failed;
  for (fs::recursive_directory_iterator it(repository / "refs", failed), end; !failed && it != end;
       it.increment(failed))
    if (std::error_code ignored;
        it->is_regular_file(ignored) && read_small_file(it->path(), 256).starts_with(commit))
      fs::remove(it->path(), ignored);
  return {};
}

caf::error remove_revision(const fs::path& repository, const std::string& revision) {
  const auto snapshot = snapshot_of(repository, revision);
  if (!snapshot)
    return snapshot.error();
  if (auto why = remove_snapshot(repository, *snapshot))
    return why;
  if (subdirectories(repository / "snapshots").empty())
    return remove_tree(repository);
  std::error_code failed;
  const auto linked = linked_blobs(repository);
  for (fs::directory_iterator it(repository / "blobs", failed), end; !failed && it != end;
       it.increment(failed)) {
    std::error_code ignored;
    if (!linked.contains(it->path().filename().string()))
      fs::remove(it->path(), ignored);
  }
  return {};
}

/// Removes the files of the GGUF model that begins with `first` below `root`, and directories that
/// they leave empty. Says what blobs they were links to.
caf::expected<std::set<std::string>> remove_parts(const fs::path& root, const fs::path& first) {
  std::set<std::string> blobs;
  std::error_code failed;
  for (const auto& part : gguf_parts(first)) {
    std::error_code ignored;
    if (const auto link = fs::read_symlink(root / part, ignored); !ignored)
      blobs.insert(link.filename().string());
    fs::remove(root / part, failed);
    if (failed)
      return failure(root / part, failed);
  }
  for (auto dir = first.parent_path(); !dir.empty(); dir = dir.parent_path())
    fs::remove(root / dir, failed); // if it is empty
  return blobs;
}

/// The file by which the GGUF model `which` of `model` begins in `root`; empty = it is not there.
caf::expected<fs::path> gguf_in(const fs::path& root, const gguf_choice& which,
                                const std::string& name) {
  const auto found = choose_gguf(gguf_files_below(root), which, name);
  if (found)
    return fs::path{*found};
  return found.error() == errc::not_found || gguf_models({root}).empty()
             ? caf::expected<fs::path>{fs::path{}}
             : found.error();
}

caf::error no_such_gguf(const stored_model& model) {
  std::string names;
  for (const auto& one : model.ggufs)
    names += "\n  " + one.name;
  return caf::make_error(errc::not_found, model.name + ": has no such GGUF model here" +
                                              (names.empty() ? "" : "; there are" + names));
}

/// A GGUF model: the directory that it is in, and the file by which it begins there.
struct gguf_place {
  fs::path root, first;
};

/// Where `what` lies: in several snapshots of a hub's, perhaps. Fails if it is nowhere.
caf::expected<std::vector<gguf_place>> places_of(const stored_model& model, const removal& what,
                                                 bool hub) {
  auto roots = hub ? subdirectories(model.dir / "snapshots") : std::vector{model.dir};
  if (!what.revision.empty()) {
    auto one = snapshot_of(model.dir, what.revision);
    if (!one)
      return std::move(one.error());
    roots = {std::move(*one)};
  }
  std::vector<gguf_place> out;
  for (const auto& root : roots) {
    auto first = gguf_in(root, what.gguf, model.name);
    if (!first)
      return std::move(first.error());
    if (!first->empty())
      out.push_back({root, std::move(*first)});
  }
  if (out.empty())
    return no_such_gguf(model);
  return out;
}

caf::error remove_gguf_of_hub(const stored_model& model, const std::vector<gguf_place>& places) {
  std::set<std::string> blobs;
  for (const auto& [root, first] : places) {
    auto gone = remove_parts(root, first);
    if (!gone)
      return std::move(gone.error());
    blobs.merge(*gone);
    if (!holds_model(root))
      if (auto why = remove_revision(model.dir, root.filename().string()))
        return why;
  }
  // Not what else nobody links: it may be a part of another model that is to come.
  const auto linked = linked_blobs(model.dir);
  std::error_code ignored;
  for (const auto& blob : blobs)
    if (!linked.contains(blob))
      fs::remove(model.dir / "blobs" / blob, ignored);
  return {};
}

caf::error remove_gguf_of_store(const stored_model& model, const fs::path& first) {
  auto manifest = read_manifest(model.dir);
  for (const auto& part : gguf_parts(first))
    manifest.files.erase(part.generic_string());
  if (auto why = write_manifest(model.dir, manifest))
    return why;
  if (auto gone = remove_parts(model.dir, first); !gone)
    return std::move(gone.error());
  return holds_model(model.dir) ? caf::error{} : remove_tree(model.dir);
}

/// As long as the result lives nobody begins to use what is to be removed. Nothing if somebody
/// does: of the GGUF models `places`, or of all there is if there are none.
caf::expected<std::vector<file_lock>> claim(const fs::path& use_lock,
                                            const std::vector<gguf_place>& places) {
  std::vector<file_lock> out;
  const auto take = [&](const fs::path& file) -> caf::expected<bool> {
    auto lock = file_lock::try_lock(file, file_lock::mode::exclusive);
    if (!lock)
      return std::move(lock.error());
    if (*lock)
      out.push_back(std::move(**lock));
    return lock->has_value();
  };
  const auto alone = take(use_lock);
  if (!alone)
    return alone.error();
  if (*alone || places.empty())
    return out;
  // Who is there may use others of the GGUF models.
  std::set<fs::path> parts{part_lock(use_lock)};
  for (const auto& one : places)
    parts.insert(part_lock(use_lock, one.first));
  for (const auto& part : parts)
    if (const auto taken = take(part); !taken || !*taken)
      return taken ? caf::expected<std::vector<file_lock>>{std::vector<file_lock>{}}
                   : taken.error();
  return out;
}

} // namespace

std::vector<stored_model> stored_models(const fs::path& store, const fs::path& hub_cache) {
  std::vector<stored_model> out;
  add_store(store, "", 0, out);
  add_hub(hub_cache, out);
  std::ranges::sort(out, {}, &stored_model::name);
  return out;
}

caf::expected<uint64_t> remove_model(const stored_model& model, const removal& what) {
  const bool hub = model.dir.filename().string().starts_with("models--");
  const auto lock_file = hub ? hub_lock(model.dir) : model.dir / ".troupe" / "in-use.lock";
  if (!what.revision.empty() && !hub)
    return caf::make_error(errc::bad_reference,
                           model.name + " has no revisions: it did not come from a hub");
  std::vector<gguf_place> ggufs;
  if (!what.gguf.empty()) {
    auto found = places_of(model, what, hub);
    if (!found)
      return std::move(found.error());
    ggufs = std::move(*found);
  }
  const auto claimed = claim(lock_file, ggufs);
  if (!what.force && !claimed)
    return claimed.error();
  if (!what.force && claimed->empty())
    return caf::make_error(errc::in_use, model.name +
                                             " is in use by a server or a download: stop it first "
                                             "(`troupe stop " +
                                             model.name + "`), or say --force");
  const auto before = measure(model.dir).bytes;
  if (auto why = !ggufs.empty()          ? (hub ? remove_gguf_of_hub(model, ggufs)
                                                : remove_gguf_of_store(model, ggufs.front().first))
                 : what.revision.empty() ? remove_tree(model.dir)
                                         : remove_revision(model.dir, what.revision))
    return why;
  std::error_code ignored;
  if (hub && !fs::exists(model.dir, ignored))
    fs::remove_all(lock_file.parent_path(), ignored);
  const auto after = measure(model.dir).bytes;
  return before - std::min(before, after);
}

} // namespace troupe::storage
