#pragma once
#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "storage/sources/source.hpp"

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

/// The checksum that a source vouches for, of a file's bytes in order.
class vouched_sum {
public:
  /// Of a file that has one.
  explicit vouched_sum(const source_file& file);
  ~vouched_sum();
  vouched_sum(vouched_sum&&) noexcept;
  vouched_sum& operator=(vouched_sum&&) noexcept;
  /// Whether a source vouches for any.
  static bool has(const source_file& file) {
    return !file.sha256.empty() || !file.git_blob.empty();
  }

  void add(std::span<const std::byte> piece);
  /// What is wrong with the bytes that were added, which are all; empty if nothing is. Nothing may
  /// be added after it.
  std::string complaint();

private:
  struct state;
  std::unique_ptr<state> state_;
};

} // namespace troupe::storage
