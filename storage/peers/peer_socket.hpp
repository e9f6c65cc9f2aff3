#pragma once
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "base/error.hpp"
#include "base/host_port.hpp"

namespace troupe::storage {

/// A file descriptor that is closed with this object.
class descriptor {
public:
  explicit descriptor(int fd = -1) : fd_{fd} {}
  descriptor(descriptor&& other) noexcept : fd_{std::exchange(other.fd_, -1)} {}
  descriptor& operator=(descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~descriptor();
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

private:
  int fd_;
};

/// Wakes a thread that waits in `wait_for_any`. Functions may be called from any thread.
class wake_event {
public:
  wake_event();
  int fd() const { return fd_.get(); }
  void set();
  void clear();

private:
  descriptor fd_;
};

struct readiness {
  bool socket = false; ///< something can be read, or the connection is over
  bool event = false;
};
/// Blocks until something can be read from the socket, the event is set, or the time is over; a
/// negative one never is.
readiness wait_for_any(int socket, const wake_event& event, std::chrono::milliseconds timeout);

/// Connects over TCP; `event` ends the attempt with `cancelled`. Fails with `unavailable`.
caf::expected<descriptor> connect_to(const host_port& where, std::chrono::milliseconds timeout,
                                     const wake_event& event);
/// Listens; port 0 takes any free one. Fails with `unavailable`.
caf::expected<descriptor> listen_at(const host_port& where);
uint16_t port_of(int socket);
/// The address of this machine that packets to `where` leave from; empty if there is no way.
std::string own_address_towards(const host_port& where);

/// Sends and receives without delay, and gives up sending after `send_timeout`.
void prepare(int socket, std::chrono::milliseconds send_timeout);

/// All of `head`, then all of `tail`, in one go where the kernel takes that.
caf::error send_all(int socket, std::span<const std::byte> head,
                    std::span<const std::byte> tail = {});
/// A part of a file, without a copy through this process.
caf::error send_file(int socket, int file, uint64_t offset, uint64_t length);
/// Fills `into`; fails if nothing comes for `stall`, or the connection ends.
caf::error receive_all(int socket, std::span<std::byte> into, std::chrono::milliseconds stall);

} // namespace troupe::storage
