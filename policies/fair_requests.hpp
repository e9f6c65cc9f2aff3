#pragma once
#include <vector>

#include "policies/fair_queue.hpp"
#include "policies/id_table.hpp"

namespace troupe::policies {

/// Requests that wait, in lines, or run. Slots are reused; a line is a doubly linked list of them,
/// so that a request in the middle can be withdrawn.
class fair_requests {
public:
  static constexpr uint32_t none = id_table::none;
  struct line {
    uint32_t first = none;
    uint32_t last = none;
    bool empty() const { return first == none; }
  };
  struct alignas(64) entry { // two cache lines
    fair_request request;
    uint32_t tenant = 0; ///< whatever the queue numbers its tenants by
    uint32_t next = none;
    uint32_t previous = none;
    bool running = false;
    uint64_t output = 0;    ///< tokens made
    uint64_t predicted = 0; ///< tokens paid for in advance
  };

  /// `none` if the id is known already.
  uint32_t add(const fair_request& request);
  uint32_t find(uint64_t id) const;
  void erase(uint32_t slot);
  entry& at(uint32_t slot) { return entries_[slot]; }
  const entry& at(uint32_t slot) const { return entries_[slot]; }
  size_t size() const { return table_.size(); }
  /// Has what `at` and `find` need of a request brought near.
  void prefetch(uint32_t slot) const {
    __builtin_prefetch(&entries_[slot]);
    __builtin_prefetch(reinterpret_cast<const char*>(&entries_[slot]) + 64);
  }

  void append(line& to, uint32_t slot);
  void unlink(line& from, uint32_t slot);

private:
  /// Ids are mostly given out in order: four that come together share a cache line of the table.
  static uint64_t hash(uint64_t id) { return mix_bits(id >> 2) << 2 | (id & 3); }

  std::vector<entry> entries_;
  std::vector<uint32_t> free_;
  id_table table_;
};

} // namespace troupe::policies
