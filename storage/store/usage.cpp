#include "storage/store/usage.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <set>
#include <system_error>

#include "storage/errors.hpp"
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

bool holds_model(const fs::path& dir) {
  if (inspect_model_dir(dir).kind == model_dir::verdict::model)
    return true;
  const auto files = gguf_files_below(dir);
  return std::ranges::any_of(files, [&](const std::string& file) {
    return inspect_gguf(dir / file).kind == model_dir::verdict::model;
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
    one.complete = std::ranges::any_of(subdirectories(repository / "snapshots"), holds_model);
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

caf::error remove_revision(const fs::path& repository, const std::string& revision) {
  auto commit = revision;
  if (!is_hex_digest(commit, 40)) {
    commit = read_small_file(repository / "refs" / revision, 256);
    while (!commit.empty() && commit.back() <= ' ')
      commit.pop_back();
  }
  std::error_code failed;
  const auto snapshot = repository / "snapshots" / commit;
  if (!is_hex_digest(commit, 40) || !fs::is_directory(snapshot, failed))
    return caf::make_error(errc::not_found,
                           repository.string() + ": has no snapshot of " + revision);
  if (auto why = remove_tree(snapshot))
    return why;
  for (fs::recursive_directory_iterator it(repository / "refs", failed), end; !failed && it != end;
       it.increment(failed))
    if (std::error_code ignored;
        it->is_regular_file(ignored) && read_small_file(it->path(), 256).starts_with(commit))
      fs::remove(it->path(), ignored);
  if (subdirectories(repository / "snapshots").empty())
    return remove_tree(repository);
  const auto linked = linked_blobs(repository);
  failed.clear();
  for (fs::directory_iterator it(repository / "blobs", failed), end; !failed && it != end;
       it.increment(failed)) {
    std::error_code ignored;
    if (!linked.contains(it->path().filename().string()))
      fs::remove(it->path(), ignored);
  }
  return {};
}

} // namespace

std::vector<stored_model> stored_models(const fs::path& store, const fs::path& hub_cache) {
  std::vector<stored_model> out;
  add_store(store, "", 0, out);
  add_hub(hub_cache, out);
  std::ranges::sort(out, {}, &stored_model::name);
  return out;
}

caf::expected<uint64_t> remove_model(const stored_model& model, const std::string& revision,
                                     bool force) {
  const bool hub = model.dir.filename().string().starts_with("models--");
  const auto lock_file = hub ? hub_lock(model.dir) : model.dir / ".troupe" / "in-use.lock";
  auto lock = file_lock::try_lock(lock_file, file_lock::mode::exclusive);
  if (!force && !lock)
    return std::move(lock.error());
  if (!force && !*lock)
    return caf::make_error(errc::in_use, model.name +
                                             " is in use by a server or a download: stop it first "
                                             "(`troupe stop " +
                                             model.name + "`), or say --force");
  if (!revision.empty() && !hub)
    return caf::make_error(errc::bad_reference,
                           model.name + " has no revisions: it did not come from a hub");
  const auto before = measure(model.dir).bytes;
  if (auto why = revision.empty() ? remove_tree(model.dir) : remove_revision(model.dir, revision))
    return why;
  std::error_code ignored;
  if (hub && !fs::exists(model.dir, ignored))
    fs::remove_all(lock_file.parent_path(), ignored);
  const auto after = measure(model.dir).bytes;
  return before - std::min(before, after);
}

} // namespace troupe::storage
