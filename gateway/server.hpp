#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "actors/ledger.hpp"
#include "actors/services.hpp"
#include "actors/tenant_registry.hpp"
#include "base/error.hpp"
#include "gateway/configuration.hpp"
#include "gateway/surface.hpp"
#include "gateway/tls.hpp"

namespace troupe::gateway {

struct server_options {
  std::string host = "127.0.0.1";
  uint16_t port = 11500; ///< 0 = any free port
  surface serves = surface::everything;
  unsigned threads = 1; ///< I/O threads
  uint64_t body_bytes_max = 16ull << 20;
  uint32_t header_bytes_max = 64u << 10;
  uint32_t connections_max = 4096;
  std::chrono::milliseconds read_timeout{60'000};    ///< for one whole request to arrive
  std::chrono::milliseconds write_timeout{60'000};   ///< for a client to take what it was sent
  std::chrono::milliseconds sse_silence_max{10'000}; ///< a comment is sent after so much silence
  std::chrono::milliseconds request_timeout{600'000};
  uint32_t n_max = 128; ///< choices per request
  /// Who may use the API; the default asks nobody for a key.
  std::shared_ptr<const actors::tenant_registry> tenants =
      std::make_shared<actors::tenant_registry>();
  bool metrics_open = false;                ///< /metrics needs no key, even where there are keys
  std::shared_ptr<actors::ledger> ledger{}; ///< null: what tenants use is not written down
  std::shared_ptr<tls_identity> tls{};      ///< null: plain HTTP
  std::shared_ptr<configuration> config{};  ///< null: /admin/config says that there is none
};

/// The HTTP edge: one listener. Threads of its own; `services` must outlive it. Several of one node
/// share the families of its metrics.
class server {
public:
  /// Binds and listens; fails when the address is taken, naming it.
  static caf::expected<std::unique_ptr<server>> start(server_options options,
                                                      actors::services& services);
  virtual ~server() = default; ///< closes every connection and joins its threads
  virtual uint16_t port() const = 0;
  /// No new requests (503 + Retry-After, `Connection: close`); running ones go on.
  virtual void drain() = 0;
  /// Requests whose response is not finished.
  virtual size_t in_flight() const = 0;
};

} // namespace troupe::gateway
