#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "gateway/http.hpp"
#include "gateway/metrics.hpp"

namespace troupe::gateway {

/// One client connection as its exchanges see it. Any thread; nothing runs inside the call.
class connection_port {
public:
  virtual ~connection_port() = default;
  /// Sends bytes of the exchange whose turn it is. `written` runs later, on the connection's own
  /// strand, with false when the bytes could not be sent. `last` completes the response.
  virtual void write(std::string bytes, bool last, bool close,
                     std::function<void(bool)> written) = 0;
  virtual void post(std::function<void()> work) = 0;
  /// The response is complete and on its way; the connection may turn to its next request.
  virtual void answered() = 0;
  /// Cuts the connection.
  virtual void cut() = 0;
};

struct exchange_facts {
  std::string id;
  instant received{};
  bool head_only = false; ///< HEAD: headers as for GET, no body
  bool keep_alive = true;
  bool http_1_0 = false; ///< knows no chunks: a stream ends with the connection
  size_t unsent_bytes_max = 1u << 20;
};

/// The response side of one request: orders, frames and batches its bytes. While one write is on
/// its way, everything that follows is collected into the next, so a slow client costs memory up
/// to unsent_bytes_max and is then cut off, and a fast producer does not cost a system call each.
class exchange final : public reply_channel, public std::enable_shared_from_this<exchange> {
public:
  /// `over` runs once, when the response is complete or the client gone.
  exchange(exchange_facts facts, std::shared_ptr<connection_port> port, http_metrics& metrics,
           std::function<void(exchange&)> over);

  void set_route(std::string_view route) override;
  void set_header(std::string name, std::string value) override;
  void send(http_response response) override;
  void start_stream() override;
  void write(std::string_view bytes) override;
  void finish(std::string_view bytes) override;
  void on_gone(std::function<void()> then) override;
  void on_silence(std::function<void()> then) override;

  /// The client is gone; also called when the server stops. Afterwards nothing of the server is
  /// touched any more, whatever the request's other end still does.
  void client_gone();
  /// From the server's clock.
  void check_silence(instant now, duration silence_max);

private:
  enum class phase : uint8_t { open, streaming, closing, over };

  std::string make_head(int status, std::string_view type, std::string_view lengths) const;
  void append_chunk(std::string_view bytes);
  void flush();
  void written(bool ok);
  struct leftovers;
  leftovers end(int status);

  const exchange_facts facts_;
  std::mutex lock_;                       ///< guards what follows
  std::shared_ptr<connection_port> port_; ///< null once over
  http_metrics* metrics_;
  std::function<void(exchange&)> over_;
  std::function<void()> on_gone_;
  std::function<void()> on_silence_;
  std::string_view route_ = "none";
  std::map<std::string, std::string> headers_;
  phase phase_ = phase::open;
  bool client_left_ = false;
  bool keep_alive_;
  bool streamed_ = false;
  bool writing_ = false;
  bool last_ = false;         ///< `pending_` ends the response
  bool last_written_ = false; ///< the response's end has been handed over
  int status_ = 0;
  size_t in_flight_ = 0;
  std::string pending_;
  size_t chunk_at_ = npos; ///< where the open chunk of `pending_` begins
  instant last_write_;
  static constexpr size_t npos = std::string::npos;
};

} // namespace troupe::gateway
