#include "engine/kv/block_pool.hpp"

#include <algorithm>
#include <bit>

namespace troupe::engine {

block_pool::block_pool(int32_t blocks, uint32_t block_size, bool remember)
    : block_size_{block_size}, remembers_{remember}, blocks_(static_cast<size_t>(blocks)) {
  free_.reserve(blocks_.size());
  for (int32_t i = blocks; i-- > 0;)
    free_.push_back(i);
  if (remembers_) {
    tokens_.resize(blocks_.size() * block_size_);
    buckets_.assign(std::bit_ceil(std::max<size_t>(1, blocks_.size())), none);
  }
}

bool block_pool::take(int32_t count, std::vector<int32_t>& to) {
  if (count > available())
    return false;
  for (; count > 0; --count) {
    if (free_.empty())
      forget(oldest_);
    blocks_[static_cast<size_t>(free_.back())].holders = 1;
    to.push_back(free_.back());
    free_.pop_back();
  }
  return true;
}

void block_pool::give_back(std::vector<int32_t>& from) {
  // From the end: a block is idle for longer than its parent, so the oldest idle one is a leaf.
  for (auto id = from.rbegin(); id != from.rend(); ++id)
    release(*id);
  from.clear();
}

void block_pool::find_prefix(uint64_t salt, std::span<const token_id> tokens, size_t blocks_max,
                             std::vector<int32_t>& to) {
  if (!remembers_)
    return;
  int32_t parent = none;
  const auto most = std::min(blocks_max, tokens.size() / block_size_);
  for (size_t i = 0; i < most; ++i) {
    const auto own = part(tokens, i);
    const auto id = find(parent, salt, hash_of(parent, salt, own), own);
    if (id == none)
      return;
    hold(id);
    to.push_back(id);
    parent = id;
  }
}

void block_pool::remember(uint64_t salt, std::span<const token_id> tokens,
                          std::span<int32_t> held) {
  if (!remembers_)
    return;
  const int32_t parent = held.size() > 1 ? held[held.size() - 2] : none;
  const auto own = part(tokens, held.size() - 1);
  const auto hash = hash_of(parent, salt, own);
  if (const auto known = find(parent, salt, hash, own); known != none) {
    if (known == held.back())
      return;
    hold(known);
    release(held.back());
    held.back() = known;
    return;
  }
  const auto id = held.back();
  auto& one = blocks_[static_cast<size_t>(id)];
  one.remembered = true;
  one.parent = parent;
  one.salt = salt;
  one.hash = hash;
  std::ranges::copy(own, tokens_.begin() + static_cast<ptrdiff_t>(id * block_size_));
  auto& bucket = buckets_[hash & (buckets_.size() - 1)];
  one.next_in_bucket = bucket;
  bucket = id;
}

uint64_t block_pool::hash_of(int32_t parent, uint64_t salt,
                             std::span<const token_id> tokens) const {
  const auto mix = [](uint64_t x, uint64_t more) {
    x = (x ^ more) * 0x9e3779b97f4a7c15ull;
    return x ^ (x >> 29);
  };
  // The parent's hash, not its number: one and the same prefix always has the same hash.
  auto out = mix(parent == none ? 0 : blocks_[static_cast<size_t>(parent)].hash, salt);
  for (const auto token : tokens)
    out = mix(out, static_cast<uint32_t>(token));
  return out;
}

int32_t block_pool::find(int32_t parent, uint64_t salt, uint64_t hash,
                         std::span<const token_id> tokens) const {
  for (auto id = buckets_[hash & (buckets_.size() - 1)]; id != none;
       id = blocks_[static_cast<size_t>(id)].next_in_bucket) {
    const auto& one = blocks_[static_cast<size_t>(id)];
    if (one.hash == hash && one.parent == parent && one.salt == salt &&
        std::equal(tokens.begin(), tokens.end(),
                   tokens_.begin() + static_cast<ptrdiff_t>(id * block_size_)))
      return id;
  }
  return none;
}

void block_pool::hold(int32_t id) {
  if (blocks_[static_cast<size_t>(id)].holders++ == 0)
    remove_idle(id);
}

void block_pool::release(int32_t id) {
  auto& one = blocks_[static_cast<size_t>(id)];
  if (--one.holders > 0)
    return;
  if (one.remembered)
    append_idle(id);
  else
    free_.push_back(id);
}

void block_pool::forget(int32_t id) {
  remove_idle(id);
  auto& one = blocks_[static_cast<size_t>(id)];
  auto* at = &buckets_[one.hash & (buckets_.size() - 1)];
  while (*at != id)
    at = &blocks_[static_cast<size_t>(*at)].next_in_bucket;
  *at = one.next_in_bucket;
  one = {};
  free_.push_back(id);
}

void block_pool::append_idle(int32_t id) {
  auto& one = blocks_[static_cast<size_t>(id)];
  one.older = newest_;
  one.newer = none;
  (newest_ == none ? oldest_ : blocks_[static_cast<size_t>(newest_)].newer) = id;
  newest_ = id;
  ++idle_;
}

void block_pool::remove_idle(int32_t id) {
  auto& one = blocks_[static_cast<size_t>(id)];
  (one.older == none ? oldest_ : blocks_[static_cast<size_t>(one.older)].newer) = one.newer;
  (one.newer == none ? newest_ : blocks_[static_cast<size_t>(one.newer)].older) = one.older;
  one.older = one.newer = none;
  --idle_;
}

} // namespace troupe::engine
