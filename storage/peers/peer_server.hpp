#pragma once
#include <atomic>
#include <chrono>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "base/error.hpp"
#include "base/host_port.hpp"
#include "storage/peers/peer_socket.hpp"
#include "storage/peers/shared_models.hpp"

namespace troupe::storage {

struct peer_server_options {
  host_port listen{};             ///< port 0 = any free one; an empty host = every address
  std::string node{};             ///< what this node calls itself
  uint32_t connections_max = 128; ///< beyond them a connection is closed at once
  uint64_t bytes_per_second = 0;  ///< that it sends at most, over all connections; 0 = no limit
  /// Whoever takes nothing for so long is dropped.
  std::chrono::milliseconds send_timeout{10'000};
  /// So often a peer hears that what it asked for takes longer.
  std::chrono::milliseconds heartbeat{500};
  /// Hears of bytes that went, on threads of the server; null = nobody does.
  std::function<void(uint64_t bytes)> on_sent{};
};

/// Spreads bytes over time. Functions may be called from any thread.
class send_pacer {
public:
  explicit send_pacer(uint64_t bytes_per_second) : bytes_per_second_{bytes_per_second} {}
  bool is_limited() const { return bytes_per_second_ > 0; }
  /// Blocks until so many more bytes may go.
  void wait(uint64_t bytes);

private:
  const uint64_t bytes_per_second_;
  std::mutex mutex_;
  std::chrono::steady_clock::time_point free_at_{};
};

/// The data plane of a node: sends what `shared_models` has to whoever connects, a thread for each
/// connection. Chunks leave from the pool or the page cache without a copy through this process.
/// There is no authentication, as on the cluster's port: for private networks.
class peer_server {
public:
  /// Fails with `unavailable` if it cannot listen there.
  static caf::expected<std::unique_ptr<peer_server>> start(peer_server_options options,
                                                           std::shared_ptr<shared_models> models);
  /// Closes all connections.
  ~peer_server();
  peer_server(const peer_server&) = delete;
  peer_server& operator=(const peer_server&) = delete;

  uint16_t port() const { return port_; }
  uint64_t sent_bytes() const { return sent_; } ///< of payloads

private:
  class connection;
  struct guest {
    std::shared_ptr<connection> what;
    std::thread thread;
  };
  peer_server(peer_server_options options, std::shared_ptr<shared_models> models,
              descriptor listening);
  void accept_all();
  void take_leave();

  const peer_server_options options_;
  const std::shared_ptr<shared_models> models_;
  descriptor listening_;
  uint16_t port_ = 0;
  wake_event stop_;
  std::atomic<bool> stopping_{false};
  std::atomic<uint64_t> sent_{0};
  send_pacer pacer_;
  std::list<guest> guests_; ///< of the accepting thread
  std::thread accepting_;
};

} // namespace troupe::storage
