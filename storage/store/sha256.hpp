#pragma once
#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace troupe::storage {

/// SHA-256 of bytes that come in pieces.
class sha256 {
public:
  sha256();
  ~sha256();
  sha256(sha256&&) noexcept;
  sha256& operator=(sha256&&) noexcept;
  void add(std::span<const std::byte> piece);
  /// 64 lower-case hex digits; nothing may be added after it.
  std::string hex();

private:
  struct state;
  std::unique_ptr<state> state_;
};

} // namespace troupe::storage
