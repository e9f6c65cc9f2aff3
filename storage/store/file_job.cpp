#include "storage/store/file_job.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <system_error>
#include <utility>

#include "storage/errors.hpp"
#include "storage/store/files.hpp"

namespace troupe::storage {

namespace {

constexpr size_t checksum_piece_bytes = size_t{1} << 20;

bool has_size(const std::filesystem::path& file, uint64_t size) {
  std::error_code failed;
  return std::filesystem::file_size(file, failed) == size && !failed;
}

} // namespace

file_job::~file_job() {
  if (fd_ >= 0)
    ::close(fd_);
}

caf::error file_job::failure(const std::string& what, int code) const {
  const auto reason = std::generic_category().message(code);
  return caf::make_error(code == ENOSPC || code == EDQUOT ? errc::no_space : errc::unreadable,
                         place_.partial.string() + ": cannot be " + what + ": " + reason);
}

caf::error file_job::lock(const std::stop_token& stop) {
  auto mine = file_lock::try_lock(place_.lock, file_lock::mode::exclusive);
  if (!mine)
    return std::move(mine.error());
  if (*mine) {
    lock_ = std::move(*mine);
    return {};
  }
  if (arrival_)
    arrival_->elsewhere();
  auto lock = file_lock::lock(place_.lock, file_lock::mode::exclusive, stop);
  if (!lock)
    return std::move(lock.error());
  lock_ = std::move(*lock);
  return {};
}

caf::error file_job::open(bool published) {
  if (published || (!place_.blob.empty() && has_size(place_.blob, file_.size_bytes))) {
    ready_ = true;
    done_bytes_ = file_.size_bytes;
    return arrival_ ? show_whole(published ? arrival_->place() : place_.blob) : caf::error{};
  }
  if (auto why = make_directories(place_.partial.parent_path()))
    return why;
  fd_ = ::open(place_.partial.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (fd_ < 0)
    return failure("opened", errno);
  auto opened =
      journal::open(place_.journal, {file_.size_bytes, file_.version, {}}, vouched_sum::has(file_));
  if (!opened)
    return std::move(opened.error());
  journal_ = std::move(*opened);
  struct stat info {};
  if (::fstat(fd_, &info) != 0)
    return failure("examined", errno);
  if (static_cast<uint64_t>(info.st_size) != file_.size_bytes) {
    // The journal's bytes are gone, or there were none yet.
    if (auto why = journal_->clear())
      return why;
    if (::ftruncate(fd_, static_cast<off_t>(file_.size_bytes)) != 0)
      return failure("made as long as it has to be", errno);
  }
  ready_ = journal_->content().verified;
  done_bytes_ = journal_->content().done.covered();
  stamp_ns_ = std::chrono::nanoseconds{std::chrono::system_clock::now().time_since_epoch()}.count();
  if (!arrival_)
    return {};
  return arrival_->begin(fd_, ready_ ? std::nullopt : std::optional{stamp_ns_},
                         journal_->content().done);
}

/// Tells of a file that is there already.
caf::error file_job::show_whole(const std::filesystem::path& at) {
  const int fd = ::open(at.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return caf::make_error(errc::unreadable, at.string() + ": cannot be opened: " +
                                                 std::generic_category().message(errno));
  range_set all;
  all.add({0, file_.size_bytes});
  auto why = arrival_->begin(fd, std::nullopt, all);
  ::close(fd);
  return why;
}

std::vector<byte_range> file_job::missing(uint64_t piece) const {
  const std::lock_guard guard{mutex_};
  return journal_->content().done.missing(file_.size_bytes, file_.ranged ? piece : UINT64_MAX);
}

caf::error file_job::write(uint64_t offset, std::span<const std::byte> bytes) {
  for (size_t done = 0; done < bytes.size();) {
    const auto wrote =
        ::pwrite(fd_, bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
    if (wrote < 0 && errno == EINTR)
      continue;
    if (wrote < 0)
      return failure("written", errno);
    done += static_cast<size_t>(wrote);
  }
  fetched_bytes_ += bytes.size();
  return remember({offset, bytes.size()});
}

caf::error file_job::remember(byte_range range) {
  {
    const std::lock_guard guard{mutex_};
    auto why = journal_->add(range);
    done_bytes_ = journal_->content().done.covered();
    if (why)
      return why;
  }
  if (arrival_)
    arrival_->came(range);
  return {};
}

void file_job::disown(const caf::error& why) {
  if (const auto lost = std::exchange(arrival_, nullptr))
    lost->fail(why);
}

caf::error file_job::restart(source_file file, const std::vector<byte_range>& doubtful) {
  const std::lock_guard guard{mutex_};
  file_ = std::move(file);
  // What is missing or in doubt: the rest of it is kept.
  range_set gone;
  for (const auto& range : doubtful)
    gone.add(range);
  for (const auto& gap : journal_->content().done.missing(file_.size_bytes, UINT64_MAX))
    gone.add(gap);
  auto fresh =
      journal::open(place_.journal, {file_.size_bytes, file_.version, {}}, vouched_sum::has(file_));
  if (!fresh)
    return std::move(fresh.error());
  journal_ = std::move(*fresh);
  if (auto why = journal_->clear())
    return why;
  checksum_.reset();
  summed_bytes_ = 0;
  if (!doubtful.empty())
    for (const auto& kept : gone.missing(file_.size_bytes, UINT64_MAX))
      if (auto why = journal_->add(kept))
        return why;
  done_bytes_ = journal_->content().done.covered();
  if (::ftruncate(fd_, static_cast<off_t>(file_.size_bytes)) != 0)
    return failure("made as long as it has to be", errno);
  return {};
}

caf::error file_job::advance_checksum(const std::stop_token& stop) {
  const std::unique_lock turn{checksum_mutex_, std::try_to_lock};
  if (!turn || !vouched_sum::has(file_) || ready_)
    return {};
  if (!checksum_)
    checksum_.emplace(file_);
  uint64_t front = 0;
  {
    const std::lock_guard guard{mutex_};
    front = journal_->content().done.front();
  }
  std::vector<std::byte> piece(std::min<uint64_t>(checksum_piece_bytes, front - summed_bytes_));
  while (summed_bytes_ < front) {
    if (stop.stop_requested())
      return caf::make_error(errc::cancelled, "checking " + file_.path + ": cancelled");
    const auto wanted = std::min<uint64_t>(piece.size(), front - summed_bytes_);
    const auto got = ::pread(fd_, piece.data(), wanted, static_cast<off_t>(summed_bytes_));
    if (got < 0 && errno == EINTR)
      continue;
    if (got <= 0)
      return failure("read", got < 0 ? errno : EIO);
    checksum_->add(std::span{piece}.first(static_cast<size_t>(got)));
    summed_bytes_ += static_cast<uint64_t>(got);
  }
  return {};
}

caf::error file_job::finish(const std::stop_token& stop) {
  if (!ready_) {
    if (auto why = advance_checksum(stop))
      return why;
    const auto wrong = checksum_ ? checksum_->complaint() : std::string{};
    checksum_.reset();
    if (!wrong.empty())
      return caf::make_error(errc::corrupted, wrong);
    // Who waits for the bytes need not wait for the disk.
    if (arrival_)
      arrival_->checked();
    const timespec stamp{stamp_ns_ / 1'000'000'000, stamp_ns_ % 1'000'000'000};
    const timespec times[2] = {{0, UTIME_OMIT}, stamp};
    if (arrival_ && ::futimens(fd_, times) != 0)
      return failure("dated", errno);
    // A renamed file must not be empty after a power cut.
    if (::fdatasync(fd_) != 0)
      return failure("written", errno);
    if (auto why = journal_->verified())
      return why;
    ready_ = true;
  }
  if (arrival_)
    arrival_->checked();
  if (!place_.blob.empty() && fd_ >= 0) {
    if (auto why = move_file(place_.partial, place_.blob))
      return why;
    std::error_code ignored;
    std::filesystem::remove(place_.journal, ignored);
  }
  if (fd_ >= 0)
    ::close(std::exchange(fd_, -1));
  journal_.reset();
  lock_.reset();
  return {};
}

uint64_t bytes_already_there(const source_file& file, const file_place& place) {
  if (!place.blob.empty() && has_size(place.blob, file.size_bytes))
    return file.size_bytes;
  struct stat info {};
  // Blocks, not the length: what has not come yet is a hole.
  if (::stat(place.partial.c_str(), &info) != 0)
    return 0;
  return std::min<uint64_t>(file.size_bytes, static_cast<uint64_t>(info.st_blocks) * 512);
}

} // namespace troupe::storage
