#include "engine/kv/block_pool.hpp"

#include <algorithm>
#include <bit>

#include "engine/kv/kv_arena.hpp"

namespace troupe::engine {

block_pool::block_pool(int32_t blocks, uint32_t block_size, bool remember)
    : block_size_{block_size}, remembers_{remember},
      blocks_(static_cast<size_t>(blocks)), run_blocks_{std::max(1, blocks)}, runs_(1) {
  make_room();
  add_run(0);
}

block_pool::block_pool(kv_arena& from, bool remember)
    : block_size_{static_cast<size_t>(from.shape().block_size)}, remembers_{remember},
      blocks_(static_cast<size_t>(from.shape().blocks)), arena_{&from},
      run_blocks_{from.shape().run_blocks}, runs_(static_cast<size_t>(from.shape().runs())) {
  make_room();
}

void block_pool::make_room() {
  for (size_t i = 0; i < runs_.size(); ++i)
    runs_[i].blocks = std::min(run_blocks_, total() - static_cast<int32_t>(i) * run_blocks_);
  if (remembers_) {
    tokens_.resize(blocks_.size() * block_size_);
    buckets_.assign(std::bit_ceil(std::max<size_t>(1, blocks_.size())), none);
  }
}

int32_t block_pool::available() const {
  const auto here = free_ + idle_;
  if (arena_ == nullptr)
    return here;
  const auto reach = int64_t{arena_->runs_within_reach()} * run_blocks_;
  return static_cast<int32_t>(std::min<int64_t>(here + reach, total() - held_));
}

bool block_pool::take(int32_t count, std::vector<int32_t>& to, const policies::kv_plea& plea) {
  if (count > total() - held_ || (arena_ == nullptr && count > free_ + idle_))
    return false;
  while (free_ < count)
    if (!grow(plea))
      return false;
  for (; count > 0; --count)
    to.push_back(take_one());
  return true;
}

/// Makes at least one more block free.
bool block_pool::grow(const policies::kv_plea& plea) {
  using policies::kv_relief;
  auto how = oldest_ != none ? kv_relief::own_block : kv_relief::none;
  if (arena_ != nullptr) {
    auto own = plea;
    if (oldest_ != none)
      own.own_oldest = blocks_[static_cast<size_t>(oldest_)].idle_since;
    while (lowest_absent_ < static_cast<int32_t>(runs_.size()) &&
           runs_[static_cast<size_t>(lowest_absent_)].is_here)
      ++lowest_absent_;
    how = arena_->borrow(lowest_absent_, own);
  }
  if (how == kv_relief::borrow)
    add_run(lowest_absent_);
  else if (how == kv_relief::own_block)
    forget(oldest_);
  return how != kv_relief::none;
}

void block_pool::add_run(int32_t number) {
  auto& one = runs_[static_cast<size_t>(number)];
  one.is_here = true;
  insert_spare(number);
  for (auto id = number * run_blocks_ + one.blocks; id-- > number * run_blocks_;)
    free_block(id);
}

/// Of a run in which nothing is held or remembered.
void block_pool::give_back_run(int32_t number) {
  auto& one = runs_[static_cast<size_t>(number)];
  remove_spare(number);
  free_ -= one.free;
  one.free = 0;
  one.first_free = none;
  one.is_here = false;
  lowest_absent_ = std::min(lowest_absent_, number);
  arena_->give_back(number);
}

int32_t block_pool::take_one() {
  while (runs_[static_cast<size_t>(lowest_free_)].free == 0)
    ++lowest_free_;
  auto& from = runs_[static_cast<size_t>(lowest_free_)];
  const auto id = from.first_free;
  auto& one = blocks_[static_cast<size_t>(id)];
  from.first_free = one.next_free;
  --from.free;
  --free_;
  one.holders = 1;
  count_held(id, 1);
  return id;
}

void block_pool::free_block(int32_t id) {
  auto& to = run_of(id);
  blocks_[static_cast<size_t>(id)].next_free = to.first_free;
  to.first_free = id;
  ++to.free;
  ++free_;
  lowest_free_ = std::min(lowest_free_, id / run_blocks_);
  if (to.held == 0 && to.free == to.blocks) { // it is of no use any more: the first to go
    remove_spare(id / run_blocks_);
    insert_spare(id / run_blocks_);
  }
}

/// A block has got its first holder, or lost its last one.
void block_pool::count_held(int32_t id, int32_t change) {
  auto& one = run_of(id);
  const bool was_spare = one.held == 0;
  one.held += change;
  held_ += change;
  if (was_spare)
    remove_spare(id / run_blocks_);
  else if (one.held == 0)
    insert_spare(id / run_blocks_);
}

void block_pool::trim() {
  const auto is_empty = [&](const run& one) { return one.free == one.blocks; };
  while (arena_ != nullptr && oldest_spare_ != none &&
         is_empty(runs_[static_cast<size_t>(oldest_spare_)]))
    give_back_run(oldest_spare_);
}

void block_pool::give_up_spare() {
  const auto number = oldest_spare_;
  if (number == none)
    return;
  const auto first = number * run_blocks_;
  for (auto id = first; id < first + runs_[static_cast<size_t>(number)].blocks; ++id)
    if (blocks_[static_cast<size_t>(id)].remembered)
      forget(id);
  give_back_run(number);
}

uint64_t block_pool::spare_since() const {
  return oldest_spare_ == none ? 0 : runs_[static_cast<size_t>(oldest_spare_)].spare_since;
}

uint64_t block_pool::tick() { return arena_ != nullptr ? arena_->tick() : ++clock_; }

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
  one.serial = ++serial_;
  one.parent = serial_of(parent);
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
    if (one.hash == hash && one.parent == serial_of(parent) && one.salt == salt &&
        std::equal(tokens.begin(), tokens.end(),
                   tokens_.begin() + static_cast<ptrdiff_t>(id * block_size_)))
      return id;
  }
  return none;
}

void block_pool::hold(int32_t id) {
  if (blocks_[static_cast<size_t>(id)].holders++ == 0) {
    remove_idle(id);
    count_held(id, 1);
  }
}

void block_pool::release(int32_t id) {
  auto& one = blocks_[static_cast<size_t>(id)];
  if (--one.holders > 0)
    return;
  if (one.remembered)
    append_idle(id);
  else
    free_block(id);
  count_held(id, -1);
}

void block_pool::forget(int32_t id) {
  remove_idle(id);
  auto& one = blocks_[static_cast<size_t>(id)];
  auto* at = &buckets_[one.hash & (buckets_.size() - 1)];
  while (*at != id)
    at = &blocks_[static_cast<size_t>(*at)].next_in_bucket;
  *at = one.next_in_bucket;
  one = {};
  free_block(id);
}

void block_pool::append_idle(int32_t id) {
  auto& one = blocks_[static_cast<size_t>(id)];
  one.idle_since = tick();
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

/// In front of all others where nothing is remembered, else behind them.
void block_pool::insert_spare(int32_t number) {
  auto& one = runs_[static_cast<size_t>(number)];
  const bool is_empty = one.free == one.blocks;
  one.spare_since = is_empty ? 0 : tick();
  one.older = is_empty ? none : newest_spare_;
  one.newer = is_empty ? oldest_spare_ : none;
  (one.older == none ? oldest_spare_ : runs_[static_cast<size_t>(one.older)].newer) = number;
  (one.newer == none ? newest_spare_ : runs_[static_cast<size_t>(one.newer)].older) = number;
  ++spare_runs_;
}

void block_pool::remove_spare(int32_t number) {
  auto& one = runs_[static_cast<size_t>(number)];
  (one.older == none ? oldest_spare_ : runs_[static_cast<size_t>(one.older)].newer) = one.newer;
  (one.newer == none ? newest_spare_ : runs_[static_cast<size_t>(one.newer)].older) = one.older;
  one.older = one.newer = none;
  --spare_runs_;
}

} // namespace troupe::engine
