#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace troupe::engine {

/// Hands out the blocks of a KV arena. A block has one owner; who it is, the caller knows.
class block_allocator {
public:
  explicit block_allocator(int32_t blocks);

  int32_t total() const { return total_; }
  int32_t available() const { return static_cast<int32_t>(free_.size()); }
  /// Appends `count` blocks to `to`, or does nothing and returns false if there are not so many.
  bool take(int32_t count, std::vector<int32_t>& to);
  /// Takes all blocks of `from` back and empties it.
  void give_back(std::vector<int32_t>& from);

private:
  int32_t total_;
  std::vector<int32_t> free_; ///< a stack: what was freed last is still in the caches
};

} // namespace troupe::engine
