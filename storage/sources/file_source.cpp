#include "storage/sources/file_source.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "storage/errors.hpp"

namespace troupe::storage {

namespace {

namespace fs = std::filesystem;

/// A checkpoint lies flat or one level down; a link that leads back up must not be followed for
/// ever.
constexpr int depth_max = 4;
constexpr size_t files_max = 100'000;
/// Large enough to cost few system calls, small enough to stay in the second-level cache.
constexpr size_t piece_bytes = size_t{1} << 20;

std::string reason(int code) { return std::generic_category().message(code); }

std::string version_of(const struct stat& info) {
  return std::to_string(info.st_size) + "-" + std::to_string(info.st_mtim.tv_sec) + "." +
         std::to_string(info.st_mtim.tv_nsec) + "-" + std::to_string(info.st_ino);
}

class descriptor {
public:
  explicit descriptor(int fd) : fd_{fd} {}
  ~descriptor() {
    if (fd_ >= 0)
      ::close(fd_);
  }
  descriptor(const descriptor&) = delete;
  descriptor& operator=(const descriptor&) = delete;
  int get() const { return fd_; }

private:
  int fd_;
};

class file_source final : public source {
public:
  file_source(fs::path root, bool single)
      : root_{std::move(root)}, name_{root_.string()}, single_{single} {}

  const std::string& name() const override { return name_; }

  caf::expected<source_file> stat(const std::string& path, std::stop_token) override {
    if (!is_inner_path(path))
      return caf::make_error(errc::malformed, name_ + ": '" + path + "' is not a path below it");
    const auto where = place(path);
    struct stat info {};
    if (::stat(where.c_str(), &info) != 0)
      return failure(where, errno);
    if (!S_ISREG(info.st_mode))
      return caf::make_error(errc::unreadable, where.string() + ": is not a regular file");
    return source_file{path, static_cast<uint64_t>(info.st_size), version_of(info), {}};
  }

  caf::expected<std::vector<source_file>> list(std::stop_token stop) override {
    std::vector<source_file> out;
    if (single_) {
      auto only = stat(root_.filename().string(), stop);
      if (!only)
        return std::move(only.error());
      out.push_back(std::move(*only));
      return out;
    }
    if (auto why = walk(root_, "", 0, out, stop))
      return why;
    std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
    return out;
  }

  caf::error stream(const source_file& file, byte_range range, const byte_sink& sink,
                    std::stop_token stop) override {
    std::vector<std::byte> piece(std::min<uint64_t>(piece_bytes, range.length));
    return with_open(file, [&](int fd) -> caf::error {
      for (uint64_t done = 0; done < range.length;) {
        if (stop.stop_requested())
          return cancelled(file);
        const auto part = std::span{piece}.first(
            static_cast<size_t>(std::min<uint64_t>(piece.size(), range.length - done)));
        if (auto why = fill(fd, file, range.offset + done, part))
          return why;
        if (auto why = sink(part))
          return why;
        done += part.size();
      }
      return {};
    });
  }

  caf::error read(const source_file& file, uint64_t offset, std::span<std::byte> into,
                  std::stop_token stop) override {
    return with_open(file, [&](int fd) -> caf::error {
      for (size_t done = 0; done < into.size();) {
        if (stop.stop_requested())
          return cancelled(file);
        const auto part = into.subspan(done, std::min(into.size() - done, 16 * piece_bytes));
        if (auto why = fill(fd, file, offset + done, part))
          return why;
        done += part.size();
      }
      return {};
    });
  }

  std::optional<fs::path> local_path(const source_file& file) const override {
    return place(file.path);
  }

private:
  fs::path place(const std::string& path) const { return single_ ? root_ : root_ / path; }

  static caf::error failure(const fs::path& where, int code) {
    if (code == ENOENT || code == ENOTDIR)
      return caf::make_error(errc::not_found, where.string() + ": no such file");
    return caf::make_error(errc::unreadable, where.string() + ": " + reason(code));
  }
  static caf::error cancelled(const source_file& file) {
    return caf::make_error(errc::cancelled, "reading " + file.path + ": cancelled");
  }

  template <class Work>
  caf::error with_open(const source_file& file, const Work& work) const {
    const auto where = place(file.path);
    const descriptor fd{::open(where.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    if (fd.get() < 0)
      return failure(where, errno);
    struct stat info {};
    if (::fstat(fd.get(), &info) != 0)
      return failure(where, errno);
    if (!file.version.empty() && version_of(info) != file.version)
      return caf::make_error(errc::changed, where.string() + ": was changed since it was listed");
    return work(fd.get());
  }

  caf::error fill(int fd, const source_file& file, uint64_t offset,
                  std::span<std::byte> into) const {
    for (size_t done = 0; done < into.size();) {
      const auto got =
          ::pread(fd, into.data() + done, into.size() - done, static_cast<off_t>(offset + done));
      if (got < 0 && errno == EINTR)
        continue;
      if (got < 0)
        return failure(place(file.path), errno);
      if (got == 0)
        return caf::make_error(errc::short_read, place(file.path).string() + ": ends at byte " +
                                                     std::to_string(offset + done));
      done += static_cast<size_t>(got);
    }
    return {};
  }

  caf::error walk(const fs::path& dir, const std::string& prefix, int depth,
                  std::vector<source_file>& out, const std::stop_token& stop) {
    std::error_code failed;
    for (fs::directory_iterator it(dir, failed), end; !failed && it != end; it.increment(failed)) {
      if (stop.stop_requested())
        return caf::make_error(errc::cancelled, "listing " + name_ + ": cancelled");
      const auto part = it->path().filename().string();
      std::error_code ignored;
      if (part.starts_with('.') || !is_inner_path(prefix + part))
        continue;
      if (it->is_directory(ignored)) {
        if (depth < depth_max)
          if (auto why = walk(it->path(), prefix + part + "/", depth + 1, out, stop))
            return why;
      } else if (it->is_regular_file(ignored)) {
        auto file = stat(prefix + part, stop);
        if (!file)
          return std::move(file.error());
        out.push_back(std::move(*file));
        if (out.size() > files_max)
          return caf::make_error(errc::unsupported, name_ + ": holds more than " +
                                                        std::to_string(files_max) + " files");
      }
    }
    if (failed)
      return caf::make_error(errc::unreadable, dir.string() + ": " + failed.message());
    return {};
  }

  fs::path root_;
  std::string name_;
  bool single_;
};

} // namespace

caf::expected<std::shared_ptr<source>> open_file_source(const fs::path& root) {
  std::error_code failed;
  const auto where = fs::absolute(root, failed).lexically_normal();
  const auto status = fs::status(where, failed);
  if (status.type() == fs::file_type::not_found)
    return caf::make_error(errc::not_found, where.string() + ": no such file or directory");
  if (!fs::is_directory(status) && !fs::is_regular_file(status))
    return caf::make_error(errc::unreadable,
                           where.string() + ": " +
                               (failed ? failed.message() : "neither a directory nor a file"));
  return std::shared_ptr<source>{std::make_shared<file_source>(where, fs::is_regular_file(status))};
}

} // namespace troupe::storage
