#include "storage/store/mend.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <system_error>
#include <utility>
#include <vector>

#include "storage/checkpoint.hpp"
#include "storage/errors.hpp"
#include "storage/model_dir.hpp"
#include "storage/sources/open_source.hpp"
#include "storage/store/manifest.hpp"

namespace troupe::storage {

namespace {

namespace fs = std::filesystem;

struct damaged_file {
  fs::path path;
  std::shared_ptr<const disk_file> file;
  std::shared_ptr<file_sums> sums;
  std::vector<byte_range> parts;
};

struct own_file {
  int fd = -1;
  explicit own_file(int opened) : fd{opened} {}
  own_file(const own_file&) = delete;
  own_file& operator=(const own_file&) = delete;
  ~own_file() {
    if (fd >= 0)
      ::close(fd);
  }
};

/// What differs from its record. A part of which nothing is recorded counts as right.
caf::expected<damaged_file> examine(const mapped_file& of, const ledger& records,
                                    const std::stop_token& stop) {
  auto file = disk_file::of(of.fd(), of.path(), false);
  if (!file)
    return std::move(file.error());
  damaged_file out{of.path(), *file, records.recorded(**file), {}};
  if (!out.sums)
    return out;
  std::vector<std::byte> chunk(records.chunk_bytes());
  for (uint64_t at = 0; at < of.size_bytes(); at += chunk.size()) {
    if (stop.stop_requested())
      return caf::make_error(errc::cancelled, "examining " + of.path().string() + ": cancelled");
    const auto expected = out.sums->expected(at);
    const auto length = std::min<uint64_t>(chunk.size(), of.size_bytes() - at);
    const auto bytes = std::span{chunk}.first(length);
    // What cannot be read is damaged, too.
    if (expected && (of.read(at, bytes) || checksum_of(bytes) != *expected))
      out.parts.push_back({at, length});
  }
  return out;
}

/// Writes one part to its place.
caf::error put(int fd, const fs::path& path, uint64_t at, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const auto wrote = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(at));
    if (wrote < 0 && errno == EINTR)
      continue;
    if (wrote <= 0)
      return caf::make_error(errc::unreadable, path.string() + ": cannot be mended: " +
                                                   std::generic_category().message(errno));
    bytes = bytes.subspan(static_cast<size_t>(wrote));
    at += static_cast<uint64_t>(wrote);
  }
  return {};
}

/// Fetches the damaged parts of one file. Calls `told` after each.
caf::error mend_file(source& from, const std::string& name, const damaged_file& what,
                     const pull_setup& how, const std::function<void(uint64_t)>& told,
                     const std::stop_token& stop) {
  const auto there =
      with_retries<source_file>(how.retries, stop, [&] { return from.stat(name, stop); });
  if (!there)
    return there.error();
  const auto other = [&] {
    return caf::make_error(errc::changed, from.name() + " has another " + name +
                                              " by now: fetch the model anew (`troupe rm`, `troupe "
                                              "pull`)");
  };
  if (there->size_bytes != what.file->size_bytes())
    return other();
  const own_file file{::open(what.path.c_str(), O_RDWR | O_CLOEXEC)};
  struct stat before {};
  if (file.fd < 0 || ::fstat(file.fd, &before) != 0)
    return caf::make_error(errc::unreadable, what.path.string() + ": cannot be mended: " +
                                                 std::generic_category().message(errno));
  for (const auto& part : what.parts) {
    std::vector<std::byte> bytes;
    const auto keep = [&](std::span<const std::byte> piece) -> caf::error {
      bytes.insert(bytes.end(), piece.begin(), piece.end());
      return {};
    };
    if (auto why = stream_with_retries(from, *there, part, keep, how.retries, stop))
      return why;
    if (bytes.size() != part.length || checksum_of(bytes) != what.sums->expected(part.offset))
      return other();
    if (auto why = put(file.fd, what.path, part.offset, bytes))
      return why;
    told(part.length);
  }
  // The file is what it was, so its date is, too: other servers of it need not learn it anew.
  const timespec times[2] = {{0, UTIME_OMIT}, before.st_mtim};
  if (::futimens(file.fd, times) != 0 || ::fdatasync(file.fd) != 0)
    return caf::make_error(errc::unreadable, what.path.string() + ": cannot be written");
  return what.sums->mended();
}

} // namespace

caf::expected<location> origin_of(const fs::path& model) {
  const auto model_dir = model_root(model);
  if (auto known = read_manifest(model_dir); !known.source.empty())
    return parse_location(known.source);
  std::error_code failed;
  const auto dir = fs::weakly_canonical(model_dir, failed);
  auto repository = dir.parent_path().parent_path().filename().string();
  constexpr std::string_view mark = "models--";
  if (dir.parent_path().filename() != "snapshots" || !repository.starts_with(mark))
    return caf::make_error(errc::not_found,
                           model_dir.string() + " was not fetched from anywhere that is known");
  repository.erase(0, mark.size());
  if (const auto at = repository.find("--"); at != std::string::npos)
    repository.replace(at, 2, "/");
  return parse_location("hf://" + repository + "@" + dir.filename().string());
}

caf::expected<pulled_model> mend(const fs::path& model_dir, const ledger& records,
                                 const pull_setup& how, const pull_observer& observer,
                                 std::stop_token stop) {
  auto where = origin_of(model_dir);
  if (!where)
    return where.error();
  if (const auto known = how.known.find(where->text); known != how.known.end())
    where = known->second;
  const auto from = open_source(*where, how.over);
  if (!from)
    return from.error();
  const auto files = checkpoint::open(model_dir);
  if (!files)
    return files.error();
  std::vector<damaged_file> damaged;
  pull_progress now{.phase = "downloading", .files = {}};
  for (const auto& file : (*files)->files()) {
    auto found = examine(file, records, stop);
    if (!found)
      return std::move(found.error());
    for (const auto& part : found->parts)
      now.total_bytes += part.length;
    if (found->sums)
      damaged.push_back(std::move(*found));
  }
  for (const auto& one : damaged) {
    const auto told = [&](uint64_t bytes) {
      now.done_bytes += bytes;
      now.fetched_bytes += bytes;
      if (observer)
        observer(now);
    };
    const auto name = one.path.lexically_relative(model_root(model_dir)).generic_string();
    if (auto why =
            one.parts.empty() ? one.sums->mended() : mend_file(**from, name, one, how, told, stop))
      return why;
  }
  return pulled_model{.name = where->model_name,
                      .dir = model_root(model_dir),
                      .path = model_dir,
                      .weight_bytes = (*files)->size_bytes(),
                      .fetched_bytes = now.fetched_bytes};
}

} // namespace troupe::storage
