#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/host_port.hpp"
#include "storage/peers/peer_messages.hpp"

namespace troupe::storage {

struct peer_links_options {
  std::string node{};   ///< what this node calls itself
  uint32_t streams = 2; ///< connections to one peer
  std::chrono::milliseconds connect_timeout{3000};
  /// A peer that owes something and sends nothing for so long, not even that it takes longer, is
  /// lost.
  std::chrono::milliseconds stall{3000};
};

/// Gets the answer, on a thread of the links; must not block. An error: it will not come.
using peer_done = std::function<void(caf::expected<peer_answer>)>;

/// Connections to the data planes of other nodes, opened when first needed, and a thread each.
/// Requests of one connection are pipelined. Functions may be called from any thread.
class peer_links {
public:
  explicit peer_links(peer_links_options options = {});
  /// What is outstanding fails with `cancelled`; waits until everybody was told.
  ~peer_links();
  peer_links(const peer_links&) = delete;
  peer_links& operator=(const peer_links&) = delete;

  /// Asks the node at `where`. The payload of the answer, verified, lies in `into` when `done` is
  /// called; it has to be as long as `into`. Fails with `unavailable` if the connection cannot be
  /// made, breaks or stalls, with `corrupted` if the bytes that came are not those that were sent,
  /// and as the peer says. `done` may be called before this returns.
  void ask(const host_port& where, peer_request request, std::span<std::byte> into, peer_done done);
  /// The same, blocking.
  caf::expected<peer_answer> call(const host_port& where, peer_request request,
                                  std::span<std::byte> into = {}, std::stop_token stop = {});

  /// Bytes per second that a peer delivered while it owed some, lately; 0 = not known.
  double bytes_per_second(const host_port& where) const;
  uint64_t received_bytes() const { return received_; }

private:
  class link;
  struct peer {
    std::vector<std::shared_ptr<link>> links;
    double bytes = 0, seconds = 0;
  };
  std::shared_ptr<link> choose(const host_port& where);
  void note(const host_port& where, uint64_t bytes, double seconds);

  const peer_links_options options_;
  std::atomic<uint64_t> received_{0};
  mutable std::mutex mutex_;
  std::condition_variable ended_;
  uint32_t running_ = 0; ///< threads
  bool stopping_ = false;
  std::map<std::string, peer> peers_; ///< by address
};

} // namespace troupe::storage
