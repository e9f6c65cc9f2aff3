#include "storage/store/journal.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <optional>
#include <system_error>
#include <utility>

#include "storage/errors.hpp"
#include "storage/model_dir.hpp"
#include "storage/sources/location.hpp"

namespace troupe::storage {

namespace {

constexpr uint64_t journal_bytes_max = uint64_t{64} << 20;

std::string heading(const journal_subject& of) {
  return "troupe-journal 1\nsize " + std::to_string(of.size_bytes) + "\nversion " +
         percent_encode(of.version, true) + "\nboot " + of.boot + "\n";
}

std::string this_boot() {
  auto text = read_small_file("/proc/sys/kernel/random/boot_id", 256);
  while (!text.empty() && text.back() <= ' ')
    text.pop_back();
  return text;
}

/// "range 0 4096"
std::optional<byte_range> parse_range(std::string_view line) {
  constexpr std::string_view mark = "range ";
  if (!line.starts_with(mark))
    return std::nullopt;
  byte_range out;
  const char* last = line.data() + line.size();
  auto [end, code] = std::from_chars(line.data() + mark.size(), last, out.offset);
  if (code != std::errc{} || end == last || *end != ' ')
    return std::nullopt;
  const auto second = std::from_chars(end + 1, last, out.length);
  if (second.ec != std::errc{} || second.ptr != last)
    return std::nullopt;
  return out;
}

} // namespace

journal_content parse_journal(std::string_view text, const journal_subject& subject) {
  journal_content out;
  const auto expected = heading(subject);
  if (!text.starts_with(expected))
    return out;
  text.remove_prefix(expected.size());
  for (auto end = text.find('\n'); end != std::string_view::npos; end = text.find('\n')) {
    const auto line = text.substr(0, end);
    text.remove_prefix(end + 1);
    const auto range = parse_range(line);
    if (range && range->length <= subject.size_bytes &&
        range->offset <= subject.size_bytes - range->length)
      out.done.add(*range);
    else if (line == "verified")
      out.verified = out.done.covered() == subject.size_bytes;
    else
      return {}; // not written by this program
  }
  return out;
}

caf::expected<journal> journal::open(const std::filesystem::path& file, journal_subject subject,
                                     bool trust_reboots) {
  journal out;
  out.file_ = file;
  out.subject_ = std::move(subject);
  out.subject_.boot = trust_reboots ? "any" : this_boot();
  const auto text = read_small_file(file, journal_bytes_max);
  // Without a version there is no telling whether the source still has the same bytes.
  if (!out.subject_.version.empty())
    out.content_ = parse_journal(text, out.subject_);
  std::error_code failed;
  std::filesystem::create_directories(file.parent_path(), failed);
  out.fd_ = ::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (out.fd_ < 0)
    return caf::make_error(errc::unreadable, file.string() + ": cannot be written: " +
                                                 std::generic_category().message(errno));
  const bool fresh = out.content_.done.covered() == 0;
  // A line that was cut off must not be continued.
  if (fresh || !text.ends_with('\n')) {
    const auto kept = out.content_;
    if (auto why = out.clear())
      return why;
    if (kept.done.covered() > 0) {
      uint64_t at = 0;
      for (const auto& gap : kept.done.missing(out.subject_.size_bytes, UINT64_MAX)) {
        if (gap.offset > at)
          if (auto why = out.add({at, gap.offset - at}))
            return why;
        at = gap.offset + gap.length;
      }
      if (at < out.subject_.size_bytes)
        if (auto why = out.add({at, out.subject_.size_bytes - at}))
          return why;
    }
  }
  return out;
}

caf::error journal::append(const std::string& text) {
  const auto wrote = ::write(fd_, text.data(), text.size());
  if (wrote == static_cast<ssize_t>(text.size()))
    return {};
  const int why = wrote < 0 ? errno : ENOSPC;
  return caf::make_error(why == ENOSPC ? errc::no_space : errc::unreadable,
                         file_.string() +
                             ": cannot be written: " + std::generic_category().message(why));
}

caf::error journal::add(byte_range range) {
  content_.done.add(range);
  return append("range " + std::to_string(range.offset) + " " + std::to_string(range.length) +
                "\n");
}

caf::error journal::verified() {
  content_.verified = true;
  return append("verified\n");
}

caf::error journal::clear() {
  content_ = {};
  if (::ftruncate(fd_, 0) != 0)
    return caf::make_error(errc::unreadable, file_.string() + ": cannot be emptied");
  return append(heading(subject_));
}

journal::journal(journal&& other) noexcept { *this = std::move(other); }

journal& journal::operator=(journal&& other) noexcept {
  std::swap(file_, other.file_);
  std::swap(subject_, other.subject_);
  std::swap(content_, other.content_);
  std::swap(fd_, other.fd_);
  return *this;
}

journal::~journal() {
  if (fd_ >= 0)
    ::close(fd_);
}

} // namespace troupe::storage
