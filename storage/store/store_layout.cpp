#include <algorithm>
#include <system_error>

#include "storage/errors.hpp"
#include "storage/store/file_lock.hpp"
#include "storage/store/files.hpp"
#include "storage/store/layout.hpp"
#include "storage/store/manifest.hpp"

namespace troupe::storage {

namespace {

namespace fs = std::filesystem;

/// Whether two descriptions are of the same bytes.
bool same_bytes(const source_file& a, const source_file& b) {
  return a.size_bytes == b.size_bytes && ((!a.version.empty() && a.version == b.version) ||
                                          (!a.sha256.empty() && a.sha256 == b.sha256));
}

class store_layout final : public model_layout {
public:
  store_layout(fs::path dir, std::string source)
      : dir_{std::move(dir)}, own_{dir_ / ".troupe"}, source_{std::move(source)} {}

  const fs::path& model_dir() const override { return dir_; }
  fs::path use_lock() const override { return own_ / "in-use.lock"; }

  file_place place(const source_file& file) const override {
    const auto base = own_ / "incoming" / percent_encode(file.path, false);
    return {.partial = base.string() + ".partial",
            .journal = base.string() + ".journal",
            .lock = base.string() + ".lock",
            .blob = {}};
  }

  /// Read anew each time: another process may have published it meanwhile.
  bool has(const source_file& file) const override { return published(read_manifest(dir_), file); }

  caf::expected<file_lock> hold_publishing(const std::stop_token& stop) const override {
    return file_lock::lock(own_ / "publish.lock", file_lock::mode::exclusive, stop);
  }

  caf::error publish(const std::vector<source_file>& files, const std::stop_token& stop) override {
    auto lock = hold_publishing(stop);
    if (!lock)
      return std::move(lock.error());
    auto manifest = read_manifest(dir_);
    manifest.source = source_;
    for (const auto& file : files) {
      if (published(manifest, file))
        continue;
      if (auto why = move_file(place(file).partial, dir_ / file.path))
        return why;
      manifest.files[file.path] = file;
      if (const auto written = last_write_ns(dir_ / file.path))
        manifest.modified_ns[file.path] = *written;
    }
    if (auto why = write_manifest(dir_, manifest))
      return why;
    for (const auto& file : files) {
      std::error_code ignored;
      fs::remove(place(file).journal, ignored);
      fs::remove(place(file).lock, ignored);
    }
    return {};
  }

private:
  bool published(const store_manifest& manifest, const source_file& file) const {
    const auto at = manifest.files.find(file.path);
    std::error_code failed;
    return at != manifest.files.end() && same_bytes(at->second, file) &&
           fs::file_size(dir_ / file.path, failed) == file.size_bytes && !failed;
  }

  const fs::path dir_, own_;
  const std::string source_;
};

} // namespace

caf::expected<std::unique_ptr<model_layout>>
make_store_layout(const fs::path& store, const std::string& name, const location& from,
                  const std::vector<location>& mirrors) {
  const bool hidden = name.starts_with('.') || name.find("/.") != std::string::npos;
  const auto levels = 1 + std::count(name.begin(), name.end(), '/');
  if (!is_inner_path(name) || hidden || levels > 3)
    return caf::make_error(errc::bad_reference,
                           "'" + name + "' cannot be a model's name: give it one with --name");
  const auto dir = store / name;
  const auto known = read_manifest(dir);
  std::error_code failed;
  const bool allowed = known.source == from.text ||
                       std::ranges::find(mirrors, known.source, &location::text) != mirrors.end();
  if (!known.source.empty() && !allowed)
    return caf::make_error(errc::in_use, "the model " + name + " in " + store.string() +
                                             " came from " + known.source +
                                             ": remove it, or give this one another name");
  if (known.source.empty() && fs::exists(dir, failed) && !fs::is_empty(dir, failed) &&
      !fs::exists(dir / ".troupe", failed))
    return caf::make_error(errc::in_use, dir.string() +
                                             " is there already and was not fetched by Troupe: "
                                             "give this model another name");
  return std::unique_ptr<model_layout>{std::make_unique<store_layout>(dir, from.text)};
}

} // namespace troupe::storage
