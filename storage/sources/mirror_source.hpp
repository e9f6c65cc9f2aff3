#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "storage/sources/delivery_shares.hpp"
#include "storage/sources/source.hpp"

namespace troupe::storage {

/// Several sources of the same files as one. Reads go to all that hold a file, in proportion to
/// what they deliver; one that fails is left out, with one warning, and what it owed is read from
/// the others; one that fails with `not_yet` is only not asked for that part. The last one that is
/// left is kept, and its failure names them all.
///
/// Whether files are the same is not taken on trust: see `match`.
class mirror_source final : public source {
public:
  using warning = std::function<void(const std::string&)>;
  /// `all` is not empty; the first is the one that counts where they differ. Only the first
  /// `places` of them may say what the files are.
  mirror_source(std::vector<std::shared_ptr<source>> all, warning warn, size_t places = SIZE_MAX);

  /// Of the source that says what the files are.
  const std::string& name() const override { return members_[primary_].from->name(); }
  size_t primary() const { return primary_; }
  source& primary_source() { return *members_[primary_].from; }

  /// The files of the first source that can be asked, which says from then on what they are.
  caf::expected<std::vector<source_file>> list(std::stop_token stop = {}) override;
  caf::expected<source_file> stat(const std::string& path, std::stop_token stop = {}) override;

  /// Asks all for `files`, at once, before any is read: the first source for checksums that its
  /// listing does not have, the others for what they know of them. A file is the same if it is as
  /// long and one of the sources vouches for its checksum, which is then compared with those of the
  /// others and with what comes, or if both have it from the same address with the same strong
  /// validator. Where nothing proves it, the first source alone is read. A source that has another
  /// file is left out. Returns the files, with what was learned of them.
  std::vector<source_file> match(std::vector<source_file> files, const std::stop_token& stop);

  caf::error stream(const source_file& file, byte_range range, const byte_sink& sink,
                    std::stop_token stop = {}) override;
  /// Leaves out the sources that gave parts of it and vouch for nothing; if all vouch, all but the
  /// first.
  std::vector<byte_range> doubt(const source_file& file) override;

  struct share {
    std::string name;
    uint64_t bytes = 0;
  };
  /// What came from each.
  std::vector<share> shares() const;

private:
  struct member {
    std::shared_ptr<source> from;
    caf::error why{};    ///< it failed last
    bool warned = false; ///< of it
  };
  struct holder {
    size_t member = 0;
    source_file file; ///< as it knows it
    std::vector<byte_range> gave{};
  };
  using answers = std::vector<caf::expected<source_file>>;
  void ask_for_checksums(std::vector<source_file>& files, const std::stop_token& stop) const;
  void take_in(size_t index, answers& theirs, std::vector<source_file>& files);
  void leave_out(size_t index, caf::error why);
  void warn_once(size_t index, const std::string& why);
  caf::error part(const source_file& file, size_t index, byte_range& range, const byte_sink& sink,
                  bool& refused, const std::stop_token& stop);
  /// What the last one left failed with, and the others before; with the mutex held.
  caf::error failure_of_all(const caf::error& last, size_t index);
  holder* held_by(const std::string& path, size_t index);

  std::vector<member> members_;
  const warning warn_;
  const size_t places_; ///< the first ones of the members
  size_t primary_ = 0;
  mutable std::mutex mutex_; // of what follows, and of the members' failures
  delivery_shares shares_;
  std::map<std::string, std::vector<holder>> holders_; ///< by path
};

} // namespace troupe::storage
