#pragma once
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "actors/cluster_types.hpp"
#include "actors/model_fetch.hpp"
#include "base/error.hpp"
#include "base/host_port.hpp"
#include "storage/peers/peer_links.hpp"
#include "storage/peers/peer_server.hpp"
#include "storage/peers/stand_in.hpp"

namespace troupe::actors {

/// What loads whose bytes come from other nodes call their link.
inline constexpr const char* peer_link = "peers";

struct peer_plane_options {
  std::string node; ///< unique in the cluster
  host_port listen; ///< port 0 = any free one
  /// What others are told if it listens on every address; empty = that of the head.
  std::string own_host{};
  /// Of the head; what ":PORT" among holders means. Empty on the head itself.
  std::string head_host{};
  uint64_t bytes_per_second = 0; ///< that it sends at most; 0 = no limit
  std::filesystem::path checksums{};
  std::filesystem::path stand_ins{};
  bool same_paths = true; ///< what lies under the head's path of a model is that model
  std::function<void(uint64_t bytes)> on_sent{};
};

/// Where a model is, as far as this machine has it, and where its weights come from.
struct found_model {
  std::string path;                                      ///< what `open_model` takes
  std::shared_ptr<const storage::weight_origins> from{}; ///< null = the files
  std::shared_ptr<std::atomic<uint64_t>> received{};     ///< bytes from peers so far
  std::shared_ptr<const void> keep_alive{};              ///< of what `from` uses
  /// As long as it lives, other nodes that ask for parts which are not here yet wait for them.
  std::shared_ptr<const void> loading{};
};

/// A node's place in the exchange of weights: gives what it has, gets what it lacks. Functions may
/// be called from any thread.
class peer_plane : public std::enable_shared_from_this<peer_plane> {
public:
  /// `tiers` may be null: then it gives files alone. Fails if it cannot listen.
  static caf::expected<std::shared_ptr<peer_plane>>
  start(peer_plane_options options, std::shared_ptr<storage::weight_tiers> tiers);

  /// What others are to be told: "host:port".
  const std::string& address() const { return address_; }
  /// Lets others have the model whose files are at `path`, under that name.
  void offer(const std::string& path);
  /// The same of a model that was fetched for `order`, whatever it is called.
  void offer_fetched(const load_order& order, const std::string& path);
  /// Adds to the fetch of what `order` wants from its origin those nodes that have it and those
  /// that fetch it at the same time, and lets others have what comes.
  void share(const load_order& order, fetch_events& events);
  /// The model that the head knows as `dir`: its files where they are on this machine too, else a
  /// stand-in whose weights come from the holders of `order`. Blocks. Fails if neither is to be
  /// had, and says of whom it was asked for.
  caf::expected<found_model> find(const load_order& order, const std::string& dir);

private:
  explicit peer_plane(peer_plane_options options) : options_{std::move(options)} {}
  std::shared_ptr<storage::source> peer_source(host_port at, const std::string& model,
                                               uint32_t patience_ms);
  std::vector<host_port> addresses(const std::vector<std::string>& texts) const;
  found_model local(const load_order& order, const std::string& dir);
  caf::expected<found_model> remote(const load_order& order, const std::string& dir);
  std::shared_ptr<const void> loading(const std::string& model);

  const peer_plane_options options_;
  std::shared_ptr<storage::weight_tiers> tiers_;
  std::shared_ptr<storage::shared_models> models_;
  std::unique_ptr<storage::peer_links> links_;
  std::unique_ptr<storage::peer_server> server_;
  std::string address_;
};

} // namespace troupe::actors
