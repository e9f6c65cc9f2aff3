#pragma once
#include <filesystem>
#include <string>
#include <string_view>

#include "base/error.hpp"
#include "storage/store/range_set.hpp"

namespace troupe::storage {

/// What a journal belongs to: bytes of another version are of no use.
struct journal_subject {
  uint64_t size_bytes = 0;
  std::string version;
  std::string boot; ///< of the kernel that the bytes were handed to; see `journal::open`
};

struct journal_content {
  range_set done;
  bool verified = false; ///< everything is there, and had the right checksum if there is one
};

/// What a journal's text says. Nothing is done if it is of another subject or no journal; a last
/// line that was cut off is left out.
journal_content parse_journal(std::string_view text, const journal_subject& subject);

/// Remembers, across the death of the process, which ranges of a partial file have been written.
/// One writer at a time; losing the last lines costs fetching those ranges again.
class journal {
public:
  /// Opens the journal at `file`, or begins it anew if it is of another subject. Data that was only
  /// handed to the kernel may be lost when the machine goes down, so what an earlier boot wrote
  /// counts only if `trust_reboots`: the file will be checked as a whole.
  static caf::expected<journal> open(const std::filesystem::path& file, journal_subject subject,
                                     bool trust_reboots);

  const journal_content& content() const { return content_; }
  caf::error add(byte_range range);
  caf::error verified();
  /// Forgets everything.
  caf::error clear();

  journal(journal&& other) noexcept;
  journal& operator=(journal&& other) noexcept;
  ~journal();

private:
  journal() = default;
  caf::error append(const std::string& text);

  std::filesystem::path file_;
  journal_subject subject_;
  journal_content content_;
  int fd_ = -1;
};

} // namespace troupe::storage
