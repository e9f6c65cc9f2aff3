#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "base/error.hpp"
#include "storage/integrity/ledger.hpp"
#include "storage/peers/peer_messages.hpp"
#include "storage/pipeline/weight_tiers.hpp"
#include "storage/store/arrival.hpp"

namespace troupe::storage {

/// A part of a file, where it can be sent from: in the pool, in memory of its own, or in a file.
struct shared_part {
  chunk_lease lease;
  std::vector<std::byte> own;
  std::span<const std::byte> bytes; ///< of one of the two, or none
  std::shared_ptr<const disk_file> file;
  checksum sum;
};

/// What this node has of models, for other nodes: files of its disk, what has come of files that it
/// fetches, and chunks in its pool of those that came from a peer themselves. Functions may be
/// called from any thread.
class shared_models : public std::enable_shared_from_this<shared_models> {
public:
  /// `tiers` may be null; `checksums` is the directory of recorded checksums, or empty. `node` has
  /// to be another one for every process.
  shared_models(std::shared_ptr<weight_tiers> tiers, std::filesystem::path checksums,
                std::string node);
  ~shared_models();
  shared_models(const shared_models&) = delete;
  shared_models& operator=(const shared_models&) = delete;

  /// The model whose files are at `path`: a directory, or a GGUF file. Looked at when asked for.
  void offer(const std::string& model, const std::filesystem::path& path);
  /// A model that comes from a peer: `path` holds its small files, the beginnings of the others,
  /// and for their chunks nothing but the pool.
  void offer_received(const std::string& model, const std::filesystem::path& path,
                      std::vector<peer_file> files);
  /// A model that is being fetched: its weight files as far as they have come, under their
  /// `common_version`s. Until `offer` says where all of it is, or one of them fails.
  /// This object has to be owned by a shared pointer.
  void offer_coming(const std::string& model, const std::vector<coming_file>& files);
  void withdraw(const std::string& model);
  /// Chunks of the model are on their way: who asks for one that is not here yet shall wait. To be
  /// said before it is offered, and as often with false as with true.
  void set_loading(const std::string& model, bool loading);

  /// The files of a model. Reads its headers and small files, for messages of `not_found`,
  /// `corrupted` if they are known to be damaged.
  caf::expected<std::vector<peer_file>> list(const std::string& model);

  /// A part of a file; nothing if its chunk has not come yet, but will. Fails with `not_found` if
  /// the model is not known here or the chunk not held, with `changed` if the version is another
  /// one, with `not_yet` if the file is being fetched and the part has not come yet.
  caf::expected<std::optional<shared_part>> read(const peer_request& request);
  bool knows(const std::string& model) const;

  /// `callback` is called, on any thread, whenever `read` may give another answer; until
  /// `unsubscribe` has returned. Must not block or call back.
  uint64_t subscribe(std::function<void()> callback);
  void unsubscribe(uint64_t subscription);

private:
  struct file_entry {
    peer_file about;
    checksum key;
    std::shared_ptr<const disk_file> disk;
    bool is_whole = true;              ///< false: on the disk there is only the head
    std::shared_ptr<file_sums> sums;   ///< of weights on a disk
    std::string common{};              ///< `common_version` of weights that were fetched
    std::shared_ptr<arrival> coming{}; ///< of a file that is being fetched
  };
  using file_map = std::map<std::string, file_entry>;
  struct entry {
    std::filesystem::path path;
    uint32_t loads = 0;
    bool is_offered = false; ///< and not only on its way
    bool is_received = false;
    std::shared_ptr<const file_map> files{};
  };

  caf::error add_weights(const std::filesystem::path& path, file_map& to) const;
  caf::error add_small(const std::filesystem::path& path, file_map& to) const;
  caf::expected<std::shared_ptr<const file_map>> look(const std::string& model);
  caf::expected<shared_part> from_disk(const file_entry& x, const peer_request& request) const;
  std::optional<shared_part> from_pool(const file_entry& x, const peer_request& request) const;
  caf::expected<shared_part> from_arrival(const file_entry& x, const peer_request& request);
  void tell_when_there(const std::shared_ptr<arrival>& file, byte_range range);
  void drop_failed(const std::string& model);
  void tell();

  const std::shared_ptr<weight_tiers> tiers_;
  const ledger sums_;
  const std::string node_;
  const uint32_t chunk_bytes_;
  std::mutex looking_; ///< one look at files at a time
  mutable std::mutex mutex_;
  std::map<std::string, entry> models_;
  std::mutex awaited_mutex_;
  /// Parts of which `tell` will be called.
  std::set<std::tuple<const arrival*, uint64_t, uint64_t>> awaited_;
  std::mutex subscribers_mutex_;
  uint64_t last_subscription_ = 0;
  std::map<uint64_t, std::function<void()>> subscribers_;
};

} // namespace troupe::storage
