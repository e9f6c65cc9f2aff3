#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/host_port.hpp"
#include "storage/peers/peer_links.hpp"
#include "storage/pipeline/origin.hpp"
#include "storage/sources/source.hpp"

namespace troupe::storage {

/// A model on another node as a source: "peer://host:port/MODEL", where MODEL is what that node
/// knows it by, percent-encoded. `links` outlives it. A sha256 there is none; the checksums of
/// `peer_file` are what bytes are verified with. What the peer is fetching itself it waits for as
/// long as `patience_ms` before it fails with `not_yet`.
std::shared_ptr<source> make_peer_source(peer_links& links, host_port at, std::string model,
                                         uint32_t patience_ms = 0);

/// The files of a model as the node at `at` has them.
caf::expected<std::vector<peer_file>> list_at_peer(peer_links& links, const host_port& at,
                                                   const std::string& model,
                                                   std::stop_token stop = {});

struct peer_origin_setup {
  host_port at;
  std::string model; ///< as the peer knows it
  peer_file file;
  /// How long the peer may take until it has heard of the model itself.
  uint32_t patience_ms = 0;
  /// What is known of the chunk at an offset: a peer that has another one fails, and nobody else.
  std::function<std::optional<checksum>(uint64_t offset)> expected{};
  std::shared_ptr<std::atomic<uint64_t>> received{}; ///< counts bytes; null = nobody does
};

/// A file on another node, received straight into the reader's memory. `links` outlives all reads.
std::shared_ptr<chunk_origin> make_peer_origin(peer_links& links, peer_origin_setup setup);

/// One file that others have or get, of whom each part has its own order of preference: `route`
/// gives, for the chunk at an offset, indexes into `members` in that order. A member that fails is
/// asked no more, and what it owed is read from the next; when no more are left, the last failure
/// is that of the read. The key is that of the first member, which is never null; others may be.
std::shared_ptr<chunk_origin>
make_routed_origin(std::vector<std::shared_ptr<chunk_origin>> members,
                   std::function<std::vector<uint32_t>(uint64_t offset)> route);

} // namespace troupe::storage
