#pragma once
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "storage/sources/source.hpp"

namespace troupe::storage {

/// Nodes that fetch the same files at the same time.
struct fetch_group {
  /// In an order that all of them know; null stands for this node, which need not be among them. A
  /// read of one gives what that node holds already; it fails with `not_yet` where the bytes are
  /// still on their way to there, with `not_found` if the node has not heard of the files.
  std::vector<std::shared_ptr<source>> members{};
  /// Who of them fetches a part for all, and who does if those before are lost: all members, from 1
  /// (see `policies::fetch_turns`).
  std::function<std::vector<uint32_t>(uint64_t part)> turns{};
};

struct group_options {
  uint64_t part_bytes = uint64_t{16} << 20; ///< the same for all of the group
  /// How long nodes may take until they know of the files.
  std::chrono::milliseconds start{10'000};
  /// How long one may take for its next bytes: while nothing is known of how long a part takes,
  /// and at least.
  std::chrono::milliseconds patience{30'000}, patience_min{5'000};
  std::function<void(const std::string&)> warn{}; ///< of nodes that are left out
  /// Which files nodes offer each other; empty = all.
  std::function<bool(const std::string& path)> offered{};
};

/// A source whose files are fetched by several nodes at once: each part by one of them, which hands
/// it on to the others, so that the source gives all of it about once. Of files that are offered
/// and have a `common_version`; others come from the source alone.
///
/// A node that dies or says nonsense is left out, and its parts are fetched by the next ones. So is
/// one that takes as many times longer than this one for a part as there are nodes, since then
/// everybody would be better off alone. If the source fails, what others have already is taken from
/// them.
class group_source final : public source {
public:
  group_source(std::shared_ptr<source> from, fetch_group group, group_options options = {});

  const std::string& name() const override { return from_->name(); }
  caf::expected<source_file> stat(const std::string& path, std::stop_token stop = {}) override {
    return from_->stat(path, std::move(stop));
  }
  caf::expected<std::vector<source_file>> list(std::stop_token stop = {}) override {
    return from_->list(std::move(stop));
  }
  caf::error stream(const source_file& file, byte_range range, const byte_sink& sink,
                    std::stop_token stop = {}) override;
  bool comes_from_peer(const source_file& file, uint64_t offset) const override;
  unsigned peers() const override;
  /// Leaves out all that gave parts of it; if there are none, what the source says.
  std::vector<byte_range> doubt(const source_file& file) override;
  std::optional<std::filesystem::path> local_path(const source_file& file) const override {
    return from_->local_path(file);
  }

private:
  using clock = std::chrono::steady_clock;
  struct member {
    std::shared_ptr<source> from; ///< null = this node
    bool lost = false;
    std::map<std::string, std::vector<byte_range>> gave{}; ///< by path
  };
  /// What is left of one read of a part, and where it goes.
  struct reading {
    const source_file& file;
    byte_range left;
    const byte_sink& sink;
    const std::stop_token& stop;
    bool refused = false; ///< by the sink

    caf::error from(source& where, const source_file& there);
    bool is_over(const caf::error& why) const;
  };

  bool is_shared(const source_file& file) const;
  std::vector<uint32_t> turns(const source_file& file, uint64_t offset) const;
  bool is_lost(uint32_t index) const;
  void lose(uint32_t index, const std::string& why);
  caf::error part(reading& what);
  caf::error by_myself(reading& what);
  caf::error by(uint32_t index, reading& what, std::chrono::milliseconds patience);
  std::chrono::milliseconds patience() const;

  const std::shared_ptr<source> from_;
  const group_options options_;
  const std::function<std::vector<uint32_t>(uint64_t)> turns_;
  const clock::time_point began_ = clock::now();
  mutable std::mutex mutex_; // of what follows
  std::vector<member> members_;
  std::chrono::milliseconds longest_part_{0}; ///< that came from the source
};

} // namespace troupe::storage
