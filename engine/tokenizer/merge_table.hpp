#pragma once
#include <bit>
#include <cstdint>
#include <vector>

namespace troupe::engine {

/// (left id, right id) -> rank and merged id. Open addressing: this lookup is the inner loop of
/// BPE, where std::unordered_map costs several times as much.
class merge_table {
public:
  struct entry {
    uint64_t key = empty;
    uint32_t rank = 0;
    int32_t merged = 0;
  };

  explicit merge_table(size_t count = 0)
      : slots_(std::bit_ceil(count * 2 + 2)), mask_{slots_.size() - 1} {}

  /// False when the pair has an entry already, which then keeps its rank.
  bool insert(int32_t left, int32_t right, uint32_t rank, int32_t merged) {
    auto& slot = slots_[probe(key_of(left, right))];
    if (slot.key != empty)
      return false;
    slot = {key_of(left, right), rank, merged};
    return true;
  }

  const entry* find(int32_t left, int32_t right) const {
    const auto& slot = slots_[probe(key_of(left, right))];
    return slot.key == empty ? nullptr : &slot;
  }

private:
  static constexpr uint64_t empty = ~0ull; // ids are never negative
  static uint64_t key_of(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  size_t probe(uint64_t key) const {
    uint64_t hash = key * 0x9e3779b97f4a7c15ull;
    size_t at = (hash ^ hash >> 32) & mask_;
    while (slots_[at].key != empty && slots_[at].key != key)
      at = (at + 1) & mask_;
    return at;
  }

  std::vector<entry> slots_;
  size_t mask_;
};

} // namespace troupe::engine
