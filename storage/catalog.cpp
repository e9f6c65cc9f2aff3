#include "storage/catalog.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>

#include <simdjson.h>

#include "storage/gguf_files.hpp"
#include "storage/model_dir.hpp"

namespace troupe::storage {

namespace {

namespace fs = std::filesystem;

constexpr int depth_max = 3;
/// Directories looked at per root: a root such as a home directory must not stall the start.
constexpr size_t visits_max = 20'000;
constexpr std::string_view hub_prefix = "models--";

/// "models--org--name" -> "org/name"; empty if `name` is not a hub directory.
std::string hub_id(std::string_view name) {
  if (!name.starts_with(hub_prefix) || name.size() == hub_prefix.size())
    return {};
  name.remove_prefix(hub_prefix.size());
  const auto at = name.find("--");
  if (at == std::string_view::npos)
    return std::string{name};
  std::string id{name.substr(0, at)};
  id += '/';
  id += name.substr(at + 2);
  return id;
}

std::string trimmed(std::string text) {
  const auto blank = [](char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; };
  while (!text.empty() && blank(text.back()))
    text.pop_back();
  return text;
}

/// Names of the directories (and links to such) in `dir`, sorted, hidden ones left out.
std::vector<std::string> subdirectories(const fs::path& dir, std::error_code& failed) {
  std::vector<std::string> out;
  for (fs::directory_iterator it(dir, failed), end; !failed && it != end; it.increment(failed)) {
    std::error_code ignored;
    auto name = it->path().filename().string();
    if (!name.starts_with('.') && it->is_directory(ignored))
      out.push_back(std::move(name));
  }
  std::sort(out.begin(), out.end());
  return out;
}

/// The snapshot that a hub directory stands for; empty if it has none.
fs::path hub_snapshot(const fs::path& repository) {
  const auto snapshots = repository / "snapshots";
  const auto revision = trimmed(read_small_file(repository / "refs" / "main", 256));
  std::error_code failed;
  if (!revision.empty() && revision.find('/') == std::string::npos && revision != ".." &&
      fs::is_directory(snapshots / revision, failed))
    return snapshots / revision;
  // Downloaded by revision: the newest one, the last by name among equals.
  fs::path best;
  fs::file_time_type newest{};
  for (const auto& name : subdirectories(snapshots, failed)) {
    const auto written = fs::last_write_time(snapshots / name, failed);
    if (!failed && (best.empty() || written >= newest)) {
      best = snapshots / name;
      newest = written;
    }
  }
  return best;
}

class scan {
public:
  void root(const fs::path& given) {
    std::error_code failed;
    auto where = fs::absolute(given, failed).lexically_normal();
    if (failed)
      where = given;
    if (where.filename().empty())
      where = where.parent_path(); // a trailing slash
    const auto status = fs::status(where, failed);
    if (status.type() == fs::file_type::not_found)
      return skip(where, "no such directory");
    if (fs::is_regular_file(status) && is_gguf(where)) {
      const auto first = gguf_parts(where).front();
      return add(first, gguf_model_name(first), inspect_gguf(first));
    }
    if (!fs::is_directory(status))
      return skip(where, failed ? failed.message()
                                : "not a directory; give the directory that holds the model, or "
                                  "a .gguf file");
    visits_ = 0;
    const auto first = out_.models.size();
    visit(where, "", 0);
    std::sort(out_.models.begin() + static_cast<std::ptrdiff_t>(first), out_.models.end(),
              [](const auto& a, const auto& b) { return a.id < b.id; });
  }

  catalog result() && { return std::move(out_); }

private:
  void skip(const fs::path& where, std::string why) {
    out_.skipped.push_back({where, std::move(why)});
  }

  void visit(const fs::path& dir, const std::string& id, int depth) {
    if (++visits_ > visits_max) {
      if (visits_ == visits_max + 1)
        skip(dir, "more than " + std::to_string(visits_max) +
                      " directories under one root; the rest was not searched");
      return;
    }
    if (const auto hub = hub_id(dir.filename().string()); !hub.empty())
      return visit_hub(dir, hub);
    auto look = inspect_model_dir(dir);
    // A GGUF model that was fetched has the name that was given to it.
    std::error_code ignored;
    if (look.gguf.size() == 1 && !id.empty() &&
        fs::exists(dir / ".troupe" / "source.json", ignored))
      add(look.gguf.front(), id, inspect_gguf(look.gguf.front()));
    else
      add_gguf(look.gguf, id);
    if (look.kind != model_dir::verdict::unrelated)
      return add(dir, id.empty() ? own_id(dir) : id, std::move(look));
    if (depth == depth_max)
      return;
    std::error_code failed;
    for (const auto& name : subdirectories(dir, failed))
      visit(dir / name, id.empty() ? name : id + "/" + name, depth + 1);
    if (failed)
      skip(dir, "cannot be searched: " + failed.message());
  }

  void visit_hub(const fs::path& repository, const std::string& id) {
    const auto dir = hub_snapshot(repository);
    if (dir.empty())
      return skip(repository, "nothing was downloaded yet");
    auto look = inspect_model_dir(dir);
    const auto before = out_.models.size() + out_.skipped.size();
    add_gguf(look.gguf, id);
    if (look.kind != model_dir::verdict::unrelated)
      return add(dir, id, std::move(look));
    std::error_code failed; // large GGUF models have a directory for each of their sizes
    for (const auto& name : subdirectories(dir, failed))
      add_gguf(inspect_model_dir(dir / name).gguf, id + "/" + name);
    if (before == out_.models.size() + out_.skipped.size())
      skip(dir, "no model files in this snapshot");
  }

  void add_gguf(const std::vector<fs::path>& files, const std::string& id) {
    for (const auto& file : files)
      add(file, (id.empty() ? "" : id + "/") + gguf_model_name(file), inspect_gguf(file));
  }

  /// The id of a root that is itself a model. A snapshot's own name is a hash, so its hub's counts.
  static std::string own_id(const fs::path& dir) {
    if (dir.parent_path().filename() == "snapshots")
      if (auto hub = hub_id(dir.parent_path().parent_path().filename().string()); !hub.empty())
        return hub;
    return dir.filename().string();
  }

  void add(const fs::path& dir, const std::string& id, model_dir look) {
    if (look.kind == model_dir::verdict::unusable)
      return skip(dir, std::move(look.why));
    struct stat info {};
    if (::stat(dir.c_str(), &info) != 0)
      return skip(dir, "vanished while it was looked at");
    if (!directories_.emplace(info.st_dev, info.st_ino).second)
      return; // reached a second time, by a repeated root or a link
    if (!simdjson::validate_utf8(id))
      return skip(dir, "its name is not UTF-8, so that no request could name it");
    if (!ids_.insert(id).second)
      return skip(dir, "another model has the name " + id +
                           " already; rename the directory, or give another root");
    out_.models.push_back(
        {model_id{id}, dir, {}, look.weight_bytes, std::move(look.architecture), look.modified});
  }

  catalog out_;
  std::set<std::string> ids_;
  std::set<std::pair<dev_t, ino_t>> directories_;
  size_t visits_ = 0;
};

fs::path environment_path(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0')
    return {};
  const std::string_view text = value;
  if (const char* home = std::getenv("HOME"); home != nullptr && text.starts_with("~/"))
    return fs::path(home) / text.substr(2);
  return value;
}

} // namespace

catalog find_models(const std::vector<fs::path>& roots) {
  scan all;
  for (const auto& root : roots)
    all.root(root);
  return std::move(all).result();
}

fs::path hub_home() {
  if (auto home = environment_path("HF_HOME"); !home.empty())
    return home;
  if (const auto xdg = environment_path("XDG_CACHE_HOME"); !xdg.empty())
    return xdg / "huggingface";
  if (const auto home = environment_path("HOME"); !home.empty())
    return home / ".cache" / "huggingface";
  return {};
}

fs::path hub_cache_dir() {
  if (auto cache = environment_path("HF_HUB_CACHE"); !cache.empty())
    return cache;
  const auto home = hub_home();
  return home.empty() ? home : home / "hub";
}

std::optional<fs::path> default_hub_cache() {
  auto cache = hub_cache_dir();
  std::error_code failed;
  if (cache.empty() || !fs::is_directory(cache, failed))
    return std::nullopt;
  return cache;
}

} // namespace troupe::storage
