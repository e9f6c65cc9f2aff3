#pragma once
#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <thread>

#include <sys/socket.h>

#include "storage/peers/peer_links.hpp"
#include "storage/peers/peer_server.hpp"
#include "storage/peers/peer_socket.hpp"
#include "storage/peers/peer_source.hpp"
#include "tests/storage/model_files.hpp"
#include "tests/storage/pipeline/pipeline_fixture.hpp"

namespace troupe::storage::test {

/// A model in a directory of its own: a configuration and one tensor of so many bytes.
class model_on_disk {
public:
  explicit model_on_disk(size_t bytes, uint64_t seed = 1) {
    const auto header = R"({"a":{"dtype":"U8","shape":[)" + std::to_string(bytes) +
                        R"(],"data_offsets":[0,)" + std::to_string(bytes) + "]}}";
    content_ = safetensors(header, text_of(bytes, seed));
    write_file(path() / "model.safetensors", content_);
    write_file(path() / "config.json", llama_config);
  }
  const std::filesystem::path& path() const { return root_.path(); }
  const std::string& content() const { return content_; }

private:
  temporary_directory root_;
  std::string content_;
};

/// What a node loads with: a pool of so many small chunks, checksums recorded in `sums`.
inline std::shared_ptr<weight_tiers> tiers_with(uint32_t chunks,
                                                const std::filesystem::path& sums = {}) {
  weight_tiers_options options;
  options.pool.chunk_bytes = small_chunk;
  options.pool.size_bytes = uint64_t{chunks} * small_chunk;
  options.checksums = sums;
  options.map_cached_files = false;
  auto out = weight_tiers::open(options);
  EXPECT_TRUE(out);
  return std::move(*out);
}

inline host_port here(uint16_t port) { return {"127.0.0.1", port}; }

/// A node that has models: its data plane on a free port.
struct serving_node {
  explicit serving_node(std::shared_ptr<weight_tiers> tiers = {}, uint64_t bytes_per_second = 0,
                        const std::filesystem::path& sums = {})
      : models{std::make_shared<shared_models>(std::move(tiers), sums, "node")} {
    auto started = peer_server::start({.listen = here(0),
                                       .node = "node",
                                       .bytes_per_second = bytes_per_second,
                                       .heartbeat = std::chrono::milliseconds{20}},
                                      models);
    EXPECT_TRUE(started);
    server = std::move(*started);
  }
  host_port at() const { return here(server->port()); }
  std::shared_ptr<shared_models> models;
  std::unique_ptr<peer_server> server;
};

/// A peer that does what the test says: `behave` gets each request and the socket, and returns
/// false to close the connection.
class scripted_peer {
public:
  using behaviour = std::function<bool(int socket, const peer_request& request)>;
  explicit scripted_peer(behaviour behave, uint32_t protocol = peer_protocol)
      : behave_{std::move(behave)}, protocol_{protocol},
        listening_{std::move(*listen_at(here(0)))}, thread_{[this] { serve(); }} {}
  ~scripted_peer() {
    stopping_ = true;
    ::shutdown(listening_.get(), SHUT_RDWR);
    thread_.join();
  }
  host_port at() const { return here(port_of(listening_.get())); }

private:
  void serve() {
    std::vector<std::thread> guests;
    while (!stopping_) {
      auto socket = std::make_shared<descriptor>(::accept(listening_.get(), nullptr, nullptr));
      if (*socket)
        guests.emplace_back([this, socket] { talk(socket->get()); });
    }
    for (auto& one : guests)
      one.join();
  }
  void talk(int socket) {
    const auto hello = frame(peer_hello{.protocol = protocol_, .node = "scripted"});
    (void)send_all(socket, std::as_bytes(std::span{hello}));
    peer_hello theirs;
    if (!receive(socket, theirs))
      return;
    peer_request request;
    while (receive(socket, request) && behave_(socket, request))
      continue;
    ::shutdown(socket, SHUT_RDWR);
  }
  template <class Message>
  static bool receive(int socket, Message& x) {
    std::array<std::byte, frame_prefix_bytes> prefix;
    const std::chrono::minutes patience{2};
    if (receive_all(socket, prefix, patience))
      return false;
    const auto length = message_length(prefix, peer_request_bytes_max);
    std::string bytes(length ? *length : 0, '\0');
    return length && !receive_all(socket, std::as_writable_bytes(std::span{bytes}), patience) &&
           !decode(bytes, x);
  }

  const behaviour behave_;
  const uint32_t protocol_;
  std::atomic<bool> stopping_{false};
  descriptor listening_;
  std::thread thread_;
};

/// Answers a read with `content`, rightly.
inline void answer_well(int socket, const peer_request& request, const std::string& content) {
  const auto part = std::as_bytes(std::span{content}).subspan(request.offset, request.length);
  const auto head = frame(peer_answer{
      .number = request.number, .payload_bytes = part.size(), .sum = checksum_of(part)});
  (void)send_all(socket, std::as_bytes(std::span{head}), part);
}

} // namespace troupe::storage::test
