#include "engine/kv/block_allocator.hpp"

namespace troupe::engine {

block_allocator::block_allocator(int32_t blocks) : total_{blocks} {
  free_.reserve(static_cast<size_t>(blocks));
  for (int32_t i = blocks; i-- > 0;)
    free_.push_back(i);
}

bool block_allocator::take(int32_t count, std::vector<int32_t>& to) {
  if (count > available())
    return false;
  for (; count > 0; --count) {
    to.push_back(free_.back());
    free_.pop_back();
  }
  return true;
}

void block_allocator::give_back(std::vector<int32_t>& from) {
  free_.insert(free_.end(), from.rbegin(), from.rend());
  from.clear();
}

} // namespace troupe::engine
