#pragma once
#include <deque>
#include <functional>
#include <memory>
#include <utility>

#include <restinio/all.hpp>

#include "gateway/wire_guard.hpp"

/// Internal to server.cpp: RESTinio's headers are heavy.
namespace troupe::gateway {

using strand_type = restinio::default_strand_t;

/// What the parts of one connection (its socket, its requests, their responses) share. Everything
/// here happens on the connection's strand.
struct connection_link : std::enable_shared_from_this<connection_link> {
  explicit connection_link(strand_type on) : strand{std::move(on)} {}

  /// Requests whose response is not complete, wherever they are.
  size_t unanswered() const { return announced.size() + queue.size() + (busy ? 1 : 0); }

  /// Requests of one connection are answered one at a time: what follows waits.
  void enqueue(restinio::request_handle_t request) {
    if (announced.empty())
      return; // the guard has seen every request that the server has
    queue.emplace_back(std::move(request), announced.front());
    announced.pop_front();
    if (!busy)
      start_next();
  }

  void start_next() {
    busy = false;
    if (closed)
      return;
    if (!queue.empty()) {
      busy = true;
      auto [request, facts] = std::move(queue.front());
      queue.pop_front();
      start(std::move(request), facts);
    } else if (announced.empty() && on_idle) {
      std::exchange(on_idle, {})();
    }
  }

  void close() {
    closed = true;
    socket = nullptr;
    queue.clear();
    start = {};
    on_idle = {};
    if (auto gone = std::exchange(on_gone, {}))
      gone();
  }

  strand_type strand;
  asio::ip::tcp::socket* socket = nullptr;   ///< null once closed
  std::deque<wire_guard::message> announced; ///< complete, but not yet handed over by the server
  std::deque<std::pair<restinio::request_handle_t, wire_guard::message>> queue;
  std::function<void(restinio::request_handle_t, wire_guard::message)> start;
  std::function<void()> on_gone; ///< of the request being answered
  std::function<void()> on_idle; ///< once, when nothing is left to answer
  bool admitted = false;         ///< counts against the limit of connections; set once
  bool silent = false;           ///< it is closed without a word
  bool busy = false;
  bool closed = false;
};

} // namespace troupe::gateway
