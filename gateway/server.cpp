// The network side, and the only file that knows RESTinio.
#include "gateway/server.hpp"

#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>
#include <unordered_map>

#include <asio/thread_pool.hpp>
#include <spdlog/spdlog.h>

#include "gateway/api.hpp"
#include "gateway/errors.hpp"
#include "gateway/exchange.hpp"
#include "gateway/guarded_socket.hpp"
#include "gateway/metrics.hpp"
#include "gateway/tls.hpp"

namespace troupe::gateway {

namespace {

using connection_id = restinio::connection_id_t;

/// Requests a client may have sent ahead on one connection. Room for at least two keeps a read
/// outstanding while the first is computed, which is how a closing client is noticed.
constexpr size_t pipelined_max = 8;

/// Connections past the limit that are told so at a time; the rest is closed without a word, for
/// telling takes a descriptor.
constexpr size_t refused_max = 64;

/// A response's way out: RESTinio orders and writes what arrives here.
class restinio_port final : public connection_port {
public:
  restinio_port(std::shared_ptr<connection_link> link,
                restinio::impl::connection_handle_t connection, restinio::request_id_t request)
      : link_{std::move(link)}, connection_{std::move(connection)}, request_{request} {}

  void write(std::string bytes, bool last, bool close, std::function<void(bool)> written) override {
    // Always posted: the caller holds a lock that `written` needs.
    asio::post(link_->strand, [connection = connection_, request = request_,
                               bytes = std::move(bytes), last, close,
                               written = std::move(written)]() mutable {
      restinio::writable_items_container_t items;
      items.emplace_back(std::move(bytes));
      restinio::write_group_t group{std::move(items)};
      group.after_write_notificator(
          [written = std::move(written)](const asio::error_code& why) { written(!why); });
      connection->write_response_parts(
          request,
          {last ? restinio::response_parts_attr_t::final_parts
                : restinio::response_parts_attr_t::not_final_parts,
           close ? restinio::response_connection_attr_t::connection_close
                 : restinio::response_connection_attr_t::connection_keepalive},
          std::move(group));
    });
  }

  void post(std::function<void()> work) override { asio::post(link_->strand, std::move(work)); }

  void answered() override {
    asio::post(link_->strand, [link = link_] {
      link->on_gone = {};
      link->start_next();
    });
  }

  void cut() override {
    asio::post(link_->strand, [link = link_] {
      asio::error_code ignored;
      if (link->socket)
        link->socket->shutdown(asio::ip::tcp::socket::shutdown_both, ignored);
    });
  }

private:
  std::shared_ptr<connection_link> link_;
  restinio::impl::connection_handle_t connection_;
  restinio::request_id_t request_;
};

/// Keeps descriptors below the process's limit: RESTinio stops accepting for good when accept()
/// fails for want of one.
uint32_t fit_descriptors(uint32_t connections_max) {
  constexpr rlim_t reserved = 128; // listeners, model files, workers
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
    return connections_max;
  const auto wanted = std::min<rlim_t>(limit.rlim_max, 2 * reserved + connections_max);
  if (limit.rlim_cur < wanted) {
    limit.rlim_cur = wanted;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
      getrlimit(RLIMIT_NOFILE, &limit);
  }
  const auto room = limit.rlim_cur > 2 * reserved ? limit.rlim_cur - reserved : reserved;
  return static_cast<uint32_t>(std::min<rlim_t>(connections_max, room));
}

/// Everything that connections and exchanges of one server share.
class core {
public:
  core(const server_options& options, actors::services& services)
      : options_{options}, connections_max_{fit_descriptors(options.connections_max)},
        metrics_{services.metrics()}, api_{services, make_api_options()} {}

  std::shared_ptr<connection_link> open(connection_id id, guarded_socket& socket,
                                        strand_type strand) {
    auto link = std::make_shared<connection_link>(std::move(strand));
    link->socket = &socket.wire().tcp();
    link->start = [this, weak = link->weak_from_this()](restinio::request_handle_t request,
                                                        wire_guard::message facts) {
      if (auto alive = weak.lock())
        serve(std::move(alive), std::move(request), facts);
    };
    auto filter = std::make_shared<read_filter>(
        socket.wire(), link, wire_limits{options_.body_bytes_max, options_.header_bytes_max},
        [this](int status) { metrics_.request_refused(status); });
    metrics_.connection_opened();
    std::lock_guard guard{lock_};
    links_.emplace(id, link);
    link->admitted = admitted_ < connections_max_;
    if (link->admitted) {
      ++admitted_;
    } else {
      wire_guard::verdict full;
      full.status = 503;
      full.code = "too_many_connections";
      full.text = "Too many connections are open. Retry, or use fewer connections.";
      link->silent = links_.size() > connections_max_ + refused_max;
      filter->refuse_all(std::move(full), link->silent);
    }
    socket.filter_reads(std::move(filter));
    return link;
  }

  /// What new connections of this listener begin with; null = plain HTTP.
  std::shared_ptr<asio::ssl::context> tls() const {
    return options_.tls ? options_.tls->context() : nullptr;
  }
  std::chrono::milliseconds handshake_time() const {
    return std::min(options_.read_timeout, std::chrono::milliseconds{10'000});
  }

  void close(connection_id id) {
    std::shared_ptr<connection_link> link;
    {
      std::lock_guard guard{lock_};
      const auto found = links_.find(id);
      if (found == links_.end())
        return; // RESTinio may say it twice
      link = std::move(found->second);
      links_.erase(found);
      admitted_ -= link->admitted;
    }
    metrics_.connection_closed();
    link->close();
  }

  void receive(restinio::request_handle_t request) {
    std::shared_ptr<connection_link> link;
    {
      std::lock_guard guard{lock_};
      const auto found = links_.find(request->connection_id());
      if (found == links_.end())
        return;
      link = found->second;
    }
    link->enqueue(std::move(request));
  }

  void check_silence(instant now) {
    for (const auto& one : live())
      one->check_silence(now, options_.sse_silence_max);
  }

  /// After this nothing calls into this object from outside the server's threads.
  void detach() {
    for (const auto& one : live())
      one->client_gone();
    std::lock_guard guard{lock_};
    links_.clear();
  }

  size_t in_flight() const {
    std::lock_guard guard{lock_};
    return live_.size();
  }

  api& routes() { return api_; }
  void stop_offloading() { offload_->join(); }

private:
  api_options make_api_options() {
    api_options out;
    out.serves = options_.serves;
    out.metrics_open = options_.metrics_open;
    out.limits.n_max = options_.n_max;
    out.limits.choices_max = std::max(out.limits.choices_max, options_.n_max);
    out.request_timeout = options_.request_timeout;
    out.tenants = options_.tenants;
    out.ledger = options_.ledger;
    out.config = options_.config;
    out.offload = [pool = offload_](std::function<void()> work) {
      asio::post(*pool, std::move(work));
    };
    return out;
  }

  std::vector<std::shared_ptr<exchange>> live() const {
    std::lock_guard guard{lock_};
    std::vector<std::shared_ptr<exchange>> out;
    out.reserve(live_.size());
    for (const auto& [key, weak] : live_)
      if (auto alive = weak.lock())
        out.push_back(std::move(alive));
    return out;
  }

  static http_request read_request(const restinio::request_t& from) {
    const auto& header = from.header();
    http_request out;
    out.received = std::chrono::steady_clock::now();
    out.method = header.method().c_str();
    const auto& target = header.request_target();
    out.path = target.substr(0, target.find('?'));
    if (out.path.size() < target.size())
      out.query = target.substr(out.path.size() + 1);
    // The absolute form that proxies use: "http://host/path".
    if (const auto scheme = out.path.find("://");
        scheme != std::string::npos && out.path[0] != '/') {
      const auto slash = out.path.find('/', scheme + 3);
      out.path = slash == std::string::npos ? "/" : out.path.substr(slash);
    }
    out.content_type = header.get_field_or(restinio::http_field::content_type, std::string{});
    out.content_encoding =
        header.get_field_or(restinio::http_field::content_encoding, std::string{});
    out.authorization = header.get_field_or(restinio::http_field::authorization, std::string{});
    out.id = make_request_id(header.get_field_or("x-request-id", std::string{}));
    return out;
  }

  void serve(std::shared_ptr<connection_link> link, restinio::request_handle_t from,
             wire_guard::message facts) {
    auto request = read_request(*from);
    exchange_facts about;
    about.id = request.id;
    about.received = request.received;
    about.head_only = request.method == "HEAD";
    about.http_1_0 = facts.http_1_0;
    // An upgrade is declined by answering; RESTinio would then wait for the other protocol.
    const bool upgrade = from->header().connection() == restinio::http_connection_header_t::upgrade;
    about.keep_alive = from->header().should_keep_alive() && !upgrade && !api_.draining();
    auto port = std::make_shared<restinio_port>(
        link, std::move(restinio::impl::access_req_connection(*from)), from->request_id());
    auto channel = std::make_shared<exchange>(std::move(about), std::move(port), metrics_,
                                              [this](exchange& over) { forget(over); });
    {
      std::lock_guard guard{lock_};
      live_.emplace(channel.get(), channel);
    }
    link->on_gone = [channel] { channel->client_gone(); };
    try {
      // RESTinio only shows the body; nobody else looks at this request any more.
      request.body = std::move(const_cast<std::string&>(from->body()));
      api_.handle(std::move(request), channel);
    } catch (const std::exception& why) {
      spdlog::error("request failed inside the gateway: {}", why.what());
      channel->send(error_response({500,
                                    "The request failed inside the gateway.",
                                    "server_error",
                                    "",
                                    "internal_error",
                                    {}}));
    }
  }

  void forget(exchange& over) {
    std::lock_guard guard{lock_};
    live_.erase(&over);
  }

  const server_options options_;
  const uint32_t connections_max_;
  http_metrics metrics_;
  std::shared_ptr<asio::thread_pool> offload_ = std::make_shared<asio::thread_pool>(1);
  api api_;
  mutable std::mutex lock_; ///< guards what follows
  std::unordered_map<connection_id, std::shared_ptr<connection_link>> links_;
  uint32_t admitted_ = 0; ///< those of links_ that are within the limit
  std::unordered_map<exchange*, std::weak_ptr<exchange>> live_;
};

/// How a connection, which RESTinio makes, finds its server: through the io_context of its socket.
struct core_service : asio::execution_context::service {
  static inline asio::execution_context::id id;
  explicit core_service(asio::execution_context& context)
      : asio::execution_context::service{context} {}
  void shutdown() override {}
  core* owner = nullptr;
};

} // namespace

// Found by RESTinio through its argument when a connection starts.
template <class Connection, class Start, class Fail>
void prepare_connection_and_start_read(guarded_socket& socket, Connection& connection, Start start,
                                       Fail fail) {
  auto& service =
      asio::use_service<core_service>(static_cast<asio::execution_context&>(socket.io()));
  auto& owner = *service.owner;
  const auto strand = connection.get_executor();
  const auto link = owner.open(connection.connection_id(), socket, strand);
  auto identity = link->silent ? nullptr : owner.tls();
  if (!identity)
    return start();
  auto alive = connection.shared_from_this();
  socket.wire().begin_tls(
      std::move(identity), strand, owner.handshake_time(), alive,
      [start, fail, alive](const asio::error_code& why) mutable { why ? fail(why) : start(); });
}

inline restinio::tls_socket_t*
make_tls_socket_pointer_for_state_listener(guarded_socket&) noexcept {
  return nullptr;
}

namespace {

struct close_listener {
  explicit close_listener(core& to) : to_{to} {}
  void state_changed(const restinio::connection_state::notice_t& notice) noexcept {
    if (restinio::holds_alternative<restinio::connection_state::closed_t>(notice.cause()))
      to_.close(notice.connection_id());
  }
  core& to_;
};

struct traits : restinio::traits_t<
                    restinio::asio_timer_manager_t, restinio::null_logger_t,
                    std::function<restinio::request_handling_status_t(restinio::request_handle_t)>,
                    restinio::default_strand_t, guarded_socket> {
  using connection_state_listener_t = close_listener;
};
using http_server = restinio::http_server_t<traits>;

caf::expected<asio::ip::tcp::endpoint> resolve(const server_options& options) {
  asio::io_context io;
  asio::ip::tcp::resolver resolver{io};
  asio::error_code why;
  const auto found = resolver.resolve(options.host, std::to_string(options.port),
                                      asio::ip::tcp::resolver::passive, why);
  if (why || found.empty())
    return caf::make_error(errc::bad_address, "cannot listen on '" + options.host +
                                                  "': it is not an address of this machine (" +
                                                  why.message() + ")");
  return found.begin()->endpoint();
}

class restinio_server final : public server {
public:
  restinio_server(const server_options& options, actors::services& services,
                  asio::ip::tcp::endpoint at)
      : options_{options}, core_{options_, services}, tick_{io_} {
    asio::use_service<core_service>(static_cast<asio::execution_context&>(io_)).owner = &core_;
    http_ = std::make_unique<http_server>(restinio::external_io_context(io_), [&](auto& settings) {
      settings.port(at.port())
          .address(at.address())
          .protocol(at.address().is_v6() ? asio::ip::tcp::v6() : asio::ip::tcp::v4())
          .buffer_size(8192)
          .max_pipelined_requests(pipelined_max)
          .read_next_http_message_timelimit(options_.read_timeout)
          .write_http_response_timelimit(options_.write_timeout)
          // The node times its requests out itself and answers; this only ends what it forgot.
          .handle_request_timeout(options_.request_timeout + std::chrono::minutes{5})
          .concurrent_accepts_count(4)
          .connection_state_listener(std::make_shared<close_listener>(core_))
          .socket_options_setter(
              [](auto& socket) { socket.set_option(asio::ip::tcp::no_delay{true}); })
          .acceptor_post_bind_hook([this](asio::ip::tcp::acceptor& acceptor) {
            port_ = acceptor.local_endpoint().port();
          })
          .request_handler([this](restinio::request_handle_t request) {
            core_.receive(std::move(request));
            return restinio::request_accepted();
          });
    });
  }

  ~restinio_server() override {
    if (!threads_.empty()) {
      // On the loop, like everything else that touches the acceptor.
      asio::post(io_, [this] {
        http_->close_sync();
        io_.stop();
      });
      for (auto& one : threads_)
        one.join();
    }
    core_.detach();
    core_.stop_offloading();
  }

  /// Throws what RESTinio throws when the address is taken.
  void run() {
    http_->open_sync();
    schedule_tick();
    for (unsigned i = 0; i < std::max(options_.threads, 1u); ++i)
      threads_.emplace_back([this] { io_.run(); });
  }

  uint16_t port() const override { return port_; }
  void drain() override { core_.routes().drain(); }
  size_t in_flight() const override { return core_.in_flight(); }

private:
  void schedule_tick() {
    using std::chrono::milliseconds;
    const milliseconds silence = options_.sse_silence_max;
    tick_.expires_after(std::clamp(silence / 4, milliseconds{10}, milliseconds{1000}));
    tick_.async_wait([this](const asio::error_code& stopped) {
      if (stopped)
        return;
      core_.check_silence(std::chrono::steady_clock::now());
      schedule_tick();
    });
  }

  const server_options options_;
  core core_; // before the loop, whose leftover handlers refer to it
  asio::io_context io_;
  asio::steady_timer tick_;
  std::unique_ptr<http_server> http_;
  std::atomic<uint16_t> port_{0};
  std::vector<std::thread> threads_;
};

} // namespace

caf::expected<std::unique_ptr<server>> server::start(server_options options,
                                                     actors::services& services) {
  auto at = resolve(options);
  if (!at)
    return at.error();
  const auto where = options.host + ":" + std::to_string(options.port);
  try {
    auto out = std::make_unique<restinio_server>(options, services, *at);
    out->run();
    return std::unique_ptr<server>{std::move(out)};
  } catch (const std::exception& why) {
    return caf::make_error(errc::cannot_listen,
                           "cannot listen on " + where + ": " + why.what() +
                               "; is another server running there? --port 0 takes any free port");
  }
}

} // namespace troupe::gateway
