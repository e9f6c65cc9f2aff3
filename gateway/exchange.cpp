#include "gateway/exchange.hpp"

#include <ctime>
#include <utility>

namespace troupe::gateway {

namespace {

/// A chunk's length in eight digits and its line end, filled in when the chunk is closed.
constexpr std::string_view open_chunk = "00000000\r\n";

void close_chunk(std::string& out, size_t at) {
  static constexpr char digits[] = "0123456789abcdef";
  auto size = out.size() - at - open_chunk.size();
  for (size_t i = 8; i-- > 0; size >>= 4)
    out[at + i] = digits[size & 15];
  out += "\r\n";
}

std::string http_date() {
  const auto now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[64];
  const auto length = std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &parts);
  return {text, length};
}

bool has_no_body(int status) { return status == 204 || status == 304; }

} // namespace

exchange::exchange(exchange_facts facts, std::shared_ptr<connection_port> port,
                   http_metrics& metrics, std::function<void(exchange&)> over)
    : facts_{std::move(facts)}, port_{std::move(port)}, metrics_{&metrics}, over_{std::move(over)},
      keep_alive_{facts_.keep_alive}, last_write_{facts_.received} {
  metrics_->request_started();
}

void exchange::set_route(std::string_view route) {
  std::lock_guard guard{lock_};
  route_ = route;
}

void exchange::set_header(std::string name, std::string value) {
  std::lock_guard guard{lock_};
  headers_[std::move(name)] = std::move(value);
}

std::string exchange::make_head(int status, std::string_view type, std::string_view lengths) const {
  const auto took = std::chrono::steady_clock::now() - facts_.received;
  const auto took_ms = std::chrono::duration_cast<std::chrono::milliseconds>(took).count();
  std::string out = "HTTP/1.1 " + std::to_string(status) + " ";
  out += reason_phrase(status);
  out += "\r\ndate: " + http_date() + "\r\nserver: troupe\r\n";
  out += keep_alive_ ? "connection: keep-alive\r\n" : "connection: close\r\n";
  out += "x-request-id: " + facts_.id + "\r\nopenai-processing-ms: " + std::to_string(took_ms) +
         "\r\n";
  if (!type.empty()) {
    out += "content-type: ";
    out += type;
    out += "\r\n";
  }
  for (const auto& [name, value] : headers_)
    out += name + ": " + value + "\r\n";
  out += lengths;
  return out;
}

void exchange::send(http_response response) {
  std::lock_guard guard{lock_};
  if (phase_ != phase::open)
    return;
  phase_ = phase::closing;
  status_ = response.status;
  const auto length = has_no_body(status_)
                          ? std::string{}
                          : "content-length: " + std::to_string(response.body.size()) + "\r\n";
  pending_ = make_head(status_, response.content_type, length);
  for (const auto& [name, value] : response.headers)
    pending_ += name + ": " + value + "\r\n";
  pending_ += "\r\n";
  if (!facts_.head_only && !has_no_body(status_))
    pending_ += response.body;
  last_ = true;
  flush();
}

void exchange::start_stream() {
  std::lock_guard guard{lock_};
  if (phase_ != phase::open)
    return;
  phase_ = phase::streaming;
  streamed_ = true;
  status_ = 200;
  if (facts_.http_1_0)
    keep_alive_ = false;
  pending_ = make_head(200, "text/event-stream; charset=utf-8",
                       facts_.http_1_0 ? "" : "transfer-encoding: chunked\r\n");
  // Proxies that buffer would hold tokens back.
  pending_ += "cache-control: no-cache\r\nx-accel-buffering: no\r\n\r\n";
  last_write_ = std::chrono::steady_clock::now();
  flush();
}

void exchange::append_chunk(std::string_view bytes) {
  if (bytes.empty())
    return;
  if (!facts_.http_1_0 && chunk_at_ == npos) {
    chunk_at_ = pending_.size();
    pending_ += open_chunk;
  }
  pending_ += bytes;
}

void exchange::write(std::string_view bytes) {
  std::lock_guard guard{lock_};
  if (phase_ != phase::streaming)
    return;
  if (pending_.size() + in_flight_ > facts_.unsent_bytes_max) {
    phase_ = phase::closing;
    port_->cut();
    // Not from here: the caller may hold locks that its own callback needs.
    return port_->post([self = shared_from_this()] { self->client_gone(); });
  }
  append_chunk(bytes);
  last_write_ = std::chrono::steady_clock::now();
  flush();
}

void exchange::finish(std::string_view bytes) {
  std::lock_guard guard{lock_};
  if (phase_ != phase::streaming)
    return;
  phase_ = phase::closing;
  append_chunk(bytes);
  last_ = true;
  flush();
}

/// Hands everything collected to the connection, unless a write is already under way.
void exchange::flush() {
  if (writing_ || last_written_ || !port_ || (pending_.empty() && !last_))
    return;
  if (chunk_at_ != npos)
    close_chunk(pending_, chunk_at_);
  chunk_at_ = npos;
  if (last_ && streamed_ && !facts_.http_1_0)
    pending_ += "0\r\n\r\n";
  writing_ = true;
  last_written_ = last_;
  in_flight_ = pending_.size();
  port_->write(std::exchange(pending_, {}), last_, last_ && !keep_alive_,
               [self = shared_from_this()](bool ok) { self->written(ok); });
}

/// What an ending exchange lets go of: destroyed outside the lock, for nobody knows what hangs on
/// it.
struct exchange::leftovers {
  std::shared_ptr<connection_port> port;
  std::function<void(exchange&)> over;
  std::function<void()> on_gone, on_silence;
};

exchange::leftovers exchange::end(int status) {
  phase_ = phase::over;
  pending_ = {};
  if (metrics_)
    metrics_->request_finished(route_, status, std::chrono::steady_clock::now() - facts_.received);
  metrics_ = nullptr;
  return {std::move(port_), std::move(over_), std::exchange(on_gone_, {}),
          std::exchange(on_silence_, {})};
}

void exchange::written(bool ok) {
  if (!ok)
    return client_gone();
  leftovers rest;
  {
    std::lock_guard guard{lock_};
    if (phase_ == phase::over)
      return;
    writing_ = false;
    in_flight_ = 0;
    if (!last_written_)
      return flush();
    rest = end(status_);
  }
  if (rest.over)
    rest.over(*this);
  rest.port->answered();
}

void exchange::client_gone() {
  leftovers rest;
  {
    std::lock_guard guard{lock_};
    if (phase_ == phase::over)
      return;
    client_left_ = true;
    // An answer whose end has left this process counts as given.
    constexpr int left_early = 499;
    rest = end(last_written_ ? status_ : left_early);
  }
  if (rest.on_gone)
    rest.on_gone();
  if (rest.over)
    rest.over(*this);
}

void exchange::on_gone(std::function<void()> then) {
  {
    std::lock_guard guard{lock_};
    if (phase_ != phase::over) {
      on_gone_.swap(then);
      return;
    }
    if (!client_left_)
      return;
  }
  then();
}

void exchange::on_silence(std::function<void()> then) {
  std::lock_guard guard{lock_};
  if (phase_ != phase::over)
    on_silence_ = std::move(then);
}

void exchange::check_silence(instant now, duration silence_max) {
  std::function<void()> then;
  {
    std::lock_guard guard{lock_};
    if (!on_silence_ || now - last_write_ < silence_max)
      return;
    last_write_ = now;
    then = on_silence_;
  }
  then();
}

} // namespace troupe::gateway
