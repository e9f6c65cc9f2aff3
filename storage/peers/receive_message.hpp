#pragma once
#include <array>
#include <chrono>
#include <span>
#include <string>

#include "storage/peers/peer_messages.hpp"
#include "storage/peers/peer_socket.hpp"

namespace troupe::storage {

/// Reads one framed message of at most `bytes_max` bytes. Fails as `receive_all`, `message_length`
/// and `decode` do.
template <class Message>
caf::error receive_message(int socket, uint32_t bytes_max, std::chrono::milliseconds stall,
                           Message& x) {
  std::array<std::byte, frame_prefix_bytes> prefix;
  if (auto why = receive_all(socket, prefix, stall))
    return why;
  const auto length = message_length(prefix, bytes_max);
  if (!length)
    return length.error();
  std::string bytes(*length, '\0');
  if (auto why = receive_all(socket, std::as_writable_bytes(std::span{bytes}), stall))
    return why;
  return decode(bytes, x);
}

} // namespace troupe::storage
