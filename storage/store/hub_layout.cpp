#include "storage/store/layout.hpp"

#include <fstream>
#include <system_error>

#include "storage/errors.hpp"
#include "storage/model_dir.hpp"
#include "storage/sources/hub_source.hpp"
#include "storage/store/file_lock.hpp"
#include "storage/store/files.hpp"

namespace troupe::storage {

namespace {

namespace fs = std::filesystem;

class hub_layout final : public model_layout {
public:
  hub_layout(const fs::path& cache, const location& from, std::string commit)
      : repository_{cache / hub_directory_name(from.repository)},
        locks_{cache / ".locks" / hub_directory_name(from.repository)}, revision_{from.revision},
        commit_{std::move(commit)}, snapshot_{repository_ / "snapshots" / commit_} {}

  const fs::path& model_dir() const override { return snapshot_; }
  fs::path use_lock() const override { return locks_ / "troupe-in-use.lock"; }

  file_place place(const source_file& file) const override {
    const auto blob = blob_of(file);
    return {.partial = blob.string() + ".troupe-partial",
            .journal = blob.string() + ".troupe-journal",
            .lock = locks_ / (file.version + ".lock"),
            .blob = blob};
  }

  bool has(const source_file& file) const override {
    // A copy instead of a link is fine: that is what the hub's client makes where links fail.
    std::error_code failed;
    const auto link = snapshot_ / file.path;
    return fs::is_regular_file(link, failed) && fs::file_size(link, failed) == file.size_bytes &&
           (!fs::is_symlink(link, failed) ||
            fs::read_symlink(link, failed).filename() == file.version);
  }

  caf::expected<file_lock> hold_publishing(const std::stop_token& stop) const override {
    return file_lock::lock(locks_ / "troupe-publish.lock", file_lock::mode::exclusive, stop);
  }

  caf::error publish(const std::vector<source_file>& files, const std::stop_token& stop) override {
    auto lock = hold_publishing(stop);
    if (!lock)
      return std::move(lock.error());
    for (const auto& file : files)
      if (auto why = link(file))
        return why;
    if (revision_ == commit_)
      return {};
    return replace_file(repository_ / "refs" / revision_, commit_);
  }

private:
  fs::path blob_of(const source_file& file) const { return repository_ / "blobs" / file.version; }

  caf::error link(const source_file& file) const {
    if (has(file))
      return {};
    const auto at = snapshot_ / file.path;
    if (auto why = make_directories(at.parent_path()))
      return why;
    const auto target = fs::relative(blob_of(file), at.parent_path());
    const auto fresh = at.string() + ".troupe-link";
    std::error_code failed;
    fs::remove(fresh, failed);
    fs::create_symlink(target, fresh, failed);
    if (failed) { // a file system without links
      fs::create_hard_link(blob_of(file), fresh, failed);
      if (failed)
        fs::copy_file(blob_of(file), fresh, failed);
    }
    if (!failed)
      fs::rename(fresh, at, failed);
    if (failed)
      return caf::make_error(errc::unreadable,
                             at.string() + ": cannot be linked: " + failed.message());
    return {};
  }

  const fs::path repository_, locks_;
  const std::string revision_, commit_;
  const fs::path snapshot_;
};

} // namespace

std::string hub_directory_name(const std::string& repository) {
  std::string out = "models--";
  for (const char c : repository)
    out += c == '/' ? std::string{"--"} : std::string{c};
  return out;
}

std::unique_ptr<model_layout> make_hub_layout(const fs::path& cache, const location& from,
                                              const std::string& commit) {
  return std::make_unique<hub_layout>(cache, from, commit);
}

fs::path cached_snapshot(const fs::path& cache, const location& from) {
  const auto repository = cache / hub_directory_name(from.repository);
  auto commit = from.revision;
  if (!is_hex_digest(commit, 40)) {
    commit = read_small_file(repository / "refs" / from.revision, 256);
    while (!commit.empty() && commit.back() <= ' ')
      commit.pop_back();
  }
  std::error_code failed;
  auto out = repository / "snapshots" / commit;
  if (!is_hex_digest(commit, 40) || !fs::is_directory(out, failed))
    return {};
  return out;
}

} // namespace troupe::storage
