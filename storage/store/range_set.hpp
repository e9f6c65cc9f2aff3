#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "storage/sources/source.hpp"

namespace troupe::storage {

/// Which bytes of a file are there. Ranges that touch are one.
class range_set {
public:
  void add(byte_range range);
  /// The bytes that are there.
  uint64_t covered() const { return covered_; }
  /// How many bytes are there without a gap from the beginning.
  uint64_t front() const;
  /// Whether all of a range is there.
  bool has(byte_range range) const;
  /// What is there around a byte, without a gap; nothing if that byte is not.
  std::optional<byte_range> around(uint64_t offset) const;
  /// The gaps in [0, size), cut into pieces of at most `piece` bytes that begin at multiples of it
  /// where the gap does not begin within one.
  std::vector<byte_range> missing(uint64_t size, uint64_t piece) const;

private:
  std::map<uint64_t, uint64_t> ends_; // begin -> end
  uint64_t covered_ = 0;
};

} // namespace troupe::storage
