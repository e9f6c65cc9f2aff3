#include "storage/pool/chunk_pool.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <utility>

#include "storage/errors.hpp"

namespace troupe::storage {

using pool_layout::phase;

namespace {

/// Chunks that loads which hold what they read leave to everybody else.
constexpr uint32_t unreserved_chunks = 4;

int64_t nanoseconds(instant x) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(x.time_since_epoch()).count();
}

double seconds_between(int64_t from_ns, int64_t to_ns) {
  return static_cast<double>(std::max<int64_t>(to_ns - from_ns, 0)) * 1e-9;
}

double default_worth(const chunk_use& use) { return -use.idle_seconds; }
double default_warmed(double heat, double) { return heat + 1; }

} // namespace

chunk_pool::chunk_pool(chunk_pool_options options, shared_region region)
    : options_{std::move(options)}, region_{std::move(region)} {}

chunk_pool::~chunk_pool() {
  making_ready_ = {};
  unpin();
  if (options_.ready_bytes > 0)
    give_back_ready();
  for ([[maybe_unused]] const auto& slot : slots_)
    assert(slot.readers == 0);
}

caf::expected<std::shared_ptr<chunk_pool>> chunk_pool::open(chunk_pool_options options) {
  options.chunk_bytes = std::max(options.chunk_bytes / 4096 * 4096, 4096u);
  if (!options.worth)
    options.worth = default_worth;
  if (!options.warmed)
    options.warmed = default_warmed;
  if (options.size_bytes / options.chunk_bytes == 0)
    return caf::make_error(errc::no_memory, "a host pool of " + std::to_string(options.size_bytes) +
                                                " bytes holds no chunk");
  auto region = shared_region::open(options.path);
  if (!region)
    return region.error();
  const std::shared_ptr<chunk_pool> out{new chunk_pool{std::move(options), std::move(*region)}};
  if (auto why = out->attach())
    return why;
  if (out->options_.ready_bytes > 0)
    out->making_ready_ =
        std::jthread{[pool = out.get()](const std::stop_token& stop) { pool->keep_ready(stop); }};
  return out;
}

uint64_t chunk_pool::region_offset(uint32_t slot) const {
  return data_offset_ + uint64_t{slot} * options_.chunk_bytes;
}

std::optional<chunk_lease> chunk_pool::find(const chunk_key& key, instant used) {
  const std::lock_guard guard{mutex_};
  const auto at = index_.find(key);
  if (at == index_.end()) {
    ++counts_.misses;
    return std::nullopt;
  }
  ++counts_.hits;
  const auto slot = static_cast<uint32_t>(entry_records_[at->second].key.slot);
  use(slot, used);
  return make_lease(slot);
}

bool chunk_pool::holds(const chunk_key& key) const {
  const std::lock_guard guard{mutex_};
  return index_.contains(key);
}

std::vector<bool> chunk_pool::would_hold(std::span<const chunk_key> keys, uint64_t coming,
                                         double reload_seconds, instant now) const {
  const std::lock_guard guard{mutex_};
  std::vector<bool> goes(slots_.size());
  const auto newcomer =
      options_.worth({.reload_seconds = reload_seconds, .heat = options_.warmed(0, 0)});
  const auto has_room = free_.size() + filling_;
  if (coming > has_room)
    for (const auto& one : least_worth(coming - has_room, now))
      goes[one.slot] = one.worth <= newcomer;
  std::vector<bool> out;
  for (const auto& key : keys) {
    const auto at = index_.find(key);
    out.push_back(at != index_.end() && !goes[entry_records_[at->second].key.slot]);
  }
  return out;
}

void chunk_pool::expect(std::span<const chunk_key> keys, instant used) {
  const std::lock_guard guard{mutex_};
  for (const auto& key : keys)
    if (const auto at = index_.find(key); at != index_.end())
      use(static_cast<uint32_t>(entry_records_[at->second].key.slot), used);
}

std::optional<chunk_lease> chunk_pool::find_content(const checksum& sum, uint64_t length,
                                                    const chunk_key& key, instant used) {
  const std::lock_guard guard{mutex_};
  const auto at = contents_.find(sum);
  if (at == contents_.end() || record(at->second).content.length != length)
    return std::nullopt;
  ++counts_.hits;
  use(at->second, used);
  remember(key, at->second);
  return make_lease(at->second);
}

std::optional<chunk_fill> chunk_pool::begin(uint64_t length, instant used) {
  assert(length <= options_.chunk_bytes);
  for (;;) {
    std::optional<uint32_t> slot;
    {
      const std::lock_guard guard{mutex_};
      slot = take_free();
      if (!slot)
        slot = evict(used);
      if (!slot)
        return std::nullopt;
      record(*slot).state.store(phase::filling, std::memory_order_release);
      ++filling_;
    }
    // Outside the lock: making pages takes as long as copying them.
    if (commit(*slot, length))
      return chunk_fill{this, *slot, static_cast<uint32_t>(length)};
    const std::lock_guard guard{mutex_};
    --filling_;
    barren_.push_back(*slot);
  }
}

chunk_lease chunk_pool::publish(chunk_fill fill, const chunk_key& key, const checksum& sum,
                                double reload_seconds, instant used) {
  const auto room = fill.room();
  chunk_lease equal;
  {
    const std::lock_guard guard{mutex_};
    const auto at = contents_.find(sum);
    if (at != contents_.end() && record(at->second).content.length == room.size())
      equal = make_lease(at->second);
  }
  if (equal) {
    // The bytes decide: a checksum can be forged, and the older copy may have rotted.
    if (std::memcmp(equal.bytes().data(), room.data(), room.size()) == 0) {
      const std::lock_guard guard{mutex_};
      counts_.shared_bytes += room.size();
      use(equal.slot(), used);
      remember(key, equal.slot());
      return equal; // `fill` frees its slot after the lock is gone
    }
    discard(equal);
    equal.release();
  }
  const std::lock_guard guard{mutex_};
  const auto slot = fill.slot_;
  fill.pool_ = nullptr;
  end_filling();
  auto& to = record(slot);
  to.content = {sum, room.size()};
  to.record_sum = checksum_of(std::as_bytes(std::span{&to.content, 1})).low;
  to.used_ns = nanoseconds(used);
  to.hits = 0;
  to.heat = static_cast<float>(options_.warmed(0, 0));
  to.order = static_cast<uint32_t>(key.offset / options_.chunk_bytes);
  to.reload_seconds = static_cast<float>(reload_seconds);
  to.state.store(phase::ready, std::memory_order_release);
  slots_[slot].doomed = false;
  contents_.insert_or_assign(sum, slot);
  counts_.held_bytes += room.size();
  remember(key, slot);
  return make_lease(slot);
}

chunk_lease chunk_pool::share(const chunk_lease& lease) {
  const std::lock_guard guard{mutex_};
  return make_lease(lease.slot());
}

void chunk_pool::discard(const chunk_lease& bad) {
  const std::lock_guard guard{mutex_};
  if (!slots_[bad.slot()].doomed) {
    slots_[bad.slot()].doomed = true;
    empty(bad.slot());
  }
}

void chunk_pool::forget(const checksum& file) {
  {
    const std::lock_guard guard{mutex_};
    for (auto at = index_.begin(); at != index_.end();) {
      if (at->first.file != file) {
        ++at;
        continue;
      }
      const auto entry = at->second;
      const auto slot = static_cast<uint32_t>(entry_records_[entry].key.slot);
      at = index_.erase(at);
      entry_records_[entry].state.store(phase::empty, std::memory_order_release);
      free_entries_.push_back(entry);
      auto& held = slots_[slot];
      std::erase(held.entries, entry);
      if (!held.entries.empty() || held.doomed)
        continue;
      empty(slot);
      if (held.readers == 0)
        free_.push_back(slot);
      else
        held.doomed = true; // free with its last lease
    }
  }
  tell_room();
}

bool chunk_pool::starved() const {
  const std::lock_guard guard{mutex_};
  return !barren_.empty();
}

bool chunk_pool::reserve(uint32_t chunks) {
  const std::lock_guard guard{mutex_};
  free_.insert(free_.begin(), barren_.begin(), barren_.end());
  barren_.clear();
  if (!fits(reserved_, chunks))
    return false;
  reserved_ += chunks;
  return true;
}

bool chunk_pool::fits(uint32_t reserved, uint32_t chunks) const {
  const auto left = std::min(unreserved_chunks, chunk_count() / 2);
  return uint64_t{reserved} + chunks + left <= chunk_count();
}

void chunk_pool::unreserve(uint32_t chunks) {
  const std::lock_guard guard{mutex_};
  assert(chunks <= reserved_);
  reserved_ -= chunks;
}

void chunk_pool::on_room(std::function<void()> callback) {
  const std::lock_guard guard{callback_mutex_};
  room_callback_ = std::move(callback);
}

pool_usage chunk_pool::usage() const {
  const std::lock_guard guard{mutex_};
  auto out = counts_;
  out.size_bytes = uint64_t{chunk_count()} * options_.chunk_bytes;
  out.generation = header_->generation;
  for (uint32_t i = 0; i < chunk_count(); ++i) {
    out.committed_bytes += record(i).committed;
    if (slots_[i].readers != 0)
      out.leased_bytes += record(i).content.length;
  }
  for (const auto slot : free_)
    out.ready_bytes += record(slot).committed;
  return out;
}

chunk_lease chunk_pool::make_lease(uint32_t slot) {
  ++slots_[slot].readers;
  return {this, slot};
}

void chunk_pool::use(uint32_t slot, instant used) {
  auto& x = record(slot);
  const auto now = nanoseconds(used);
  const auto before = x.used_ns.load();
  if (now <= before)
    return; // the same load, or one that began earlier
  x.heat = static_cast<float>(options_.warmed(x.heat, seconds_between(before, now)));
  x.used_ns = now;
  x.hits = x.hits + 1;
}

void chunk_pool::remember(const chunk_key& key, uint32_t slot) {
  if (const auto at = index_.find(key); at != index_.end()) {
    const auto entry = at->second;
    const auto old = static_cast<uint32_t>(entry_records_[entry].key.slot);
    if (old == slot)
      return;
    std::erase(slots_[old].entries, entry);
    entry_records_[entry].state.store(phase::empty, std::memory_order_release);
    free_entries_.push_back(entry);
    index_.erase(at);
  }
  if (free_entries_.empty())
    return; // still found by its content; what is lost is a shortcut
  const auto entry = free_entries_.back();
  free_entries_.pop_back();
  auto& to = entry_records_[entry];
  to.key = {key.file, key.offset, record(slot).content, slot};
  to.record_sum = checksum_of(std::as_bytes(std::span{&to.key, 1})).low;
  to.state.store(phase::ready, std::memory_order_release);
  slots_[slot].entries.push_back(entry);
  index_.emplace(key, entry);
}

void chunk_pool::forget_entries(uint32_t slot) {
  for (const auto entry : std::exchange(slots_[slot].entries, {})) {
    auto& from = entry_records_[entry];
    from.state.store(phase::empty, std::memory_order_release);
    index_.erase({from.key.file, from.key.offset});
    free_entries_.push_back(entry);
  }
}

void chunk_pool::empty(uint32_t slot) {
  auto& x = record(slot);
  x.state.store(phase::empty, std::memory_order_release);
  forget_entries(slot);
  if (const auto at = contents_.find(x.content.sum); at != contents_.end() && at->second == slot)
    contents_.erase(at);
  counts_.held_bytes -= x.content.length;
}

std::optional<uint32_t> chunk_pool::take_free() {
  // Where one slot got no memory, others that have none yet need not try.
  if (free_.empty() || (!barren_.empty() && record(free_.back()).committed == 0))
    return std::nullopt;
  const auto slot = free_.back();
  free_.pop_back();
  return slot;
}

std::optional<uint32_t> chunk_pool::evict(instant now) {
  // Victims are chosen many at a time, so that a large pool is not searched for every chunk.
  for (const bool fresh : {false, true}) {
    if (fresh) {
      victims_ = least_worth(std::max<size_t>(8, slots_.size() / 64), now);
      std::ranges::reverse(victims_);
    }
    while (!victims_.empty()) {
      const auto [slot, used_ns, _] = victims_.back();
      victims_.pop_back();
      auto& x = record(slot);
      if (slots_[slot].readers != 0 || slots_[slot].doomed || x.state.load() != phase::ready ||
          x.used_ns.load() != used_ns)
        continue;
      empty(slot);
      ++counts_.evictions;
      return slot;
    }
  }
  return std::nullopt;
}

chunk_use chunk_pool::use_of(uint32_t slot, instant now) const {
  const auto& x = record(slot);
  return {.reload_seconds = x.reload_seconds,
          .heat = x.heat,
          .idle_seconds = seconds_between(x.used_ns, nanoseconds(now)),
          .hits = x.hits,
          .order = x.order};
}

uint32_t chunk_pool::room_below(double worth, instant now) const {
  const std::lock_guard guard{mutex_};
  auto out = static_cast<uint32_t>(free_.size());
  for (uint32_t i = 0; i < chunk_count(); ++i)
    out += slots_[i].readers == 0 && !slots_[i].doomed && record(i).state.load() == phase::ready &&
           options_.worth(use_of(i, now)) < worth;
  return std::min(out, chunk_count() - std::min(reserved_, chunk_count()));
}

std::vector<chunk_pool::victim> chunk_pool::least_worth(size_t count, instant now) const {
  struct candidate {
    uint32_t order;
    victim who;
  };
  std::vector<candidate> found;
  for (uint32_t i = 0; i < chunk_count(); ++i) {
    auto& x = record(i);
    if (slots_[i].readers != 0 || slots_[i].doomed || x.state.load() != phase::ready)
      continue;
    const auto use = use_of(i, now);
    found.push_back({use.order, {i, x.used_ns, options_.worth(use)}});
  }
  // Of equals the end of a file goes before its beginning: a load can start with what is left.
  const auto less = [](const candidate& a, const candidate& b) {
    return a.who.worth != b.who.worth ? a.who.worth < b.who.worth : a.order > b.order;
  };
  count = std::min(found.size(), count);
  std::partial_sort(found.begin(), found.begin() + static_cast<std::ptrdiff_t>(count), found.end(),
                    less);
  std::vector<victim> out;
  for (size_t i = 0; i < count; ++i)
    out.push_back(found[i].who);
  return out;
}

void chunk_pool::touch(uint32_t slot, uint64_t length, bool fresh) {
  region_.touch(region_offset(slot), length, fresh);
  slots_[slot].touched = length == options_.chunk_bytes;
}

bool chunk_pool::commit(uint32_t slot, uint64_t length) {
  auto& x = record(slot);
  const auto wanted = (length + 4095) / 4096 * 4096;
  if (x.committed >= wanted) {
    if (!slots_[slot].touched)
      touch(slot, wanted, false);
    return true;
  }
  if (auto why = region_.commit(region_offset(slot), wanted)) {
    region_.punch(region_offset(slot), options_.chunk_bytes);
    slots_[slot].touched = false;
    x.committed = 0;
    x.state.store(phase::empty, std::memory_order_release);
    return false;
  }
  x.committed = static_cast<uint32_t>(wanted);
  touch(slot, wanted, true);
  return true;
}

void chunk_pool::end_read(uint32_t slot) {
  bool room = false;
  {
    const std::lock_guard guard{mutex_};
    room = --slots_[slot].readers == 0;
    if (room && std::exchange(slots_[slot].doomed, false))
      free_.push_back(slot);
  }
  if (room)
    tell_room();
}

void chunk_pool::end_fill(uint32_t slot) {
  {
    const std::lock_guard guard{mutex_};
    record(slot).state.store(phase::empty, std::memory_order_release);
    free_.push_back(slot);
    end_filling();
  }
  tell_room();
}

void chunk_pool::tell_room() {
  const std::lock_guard guard{callback_mutex_};
  if (room_callback_)
    room_callback_();
}

chunk_lease& chunk_lease::operator=(chunk_lease&& other) noexcept {
  std::swap(pool_, other.pool_);
  std::swap(slot_, other.slot_);
  return *this;
}

void chunk_lease::release() {
  if (auto* pool = std::exchange(pool_, nullptr))
    pool->end_read(slot_);
}

std::span<const std::byte> chunk_lease::bytes() const {
  return {pool_->data(slot_), pool_->record(slot_).content.length};
}

bool chunk_lease::is_pinned() const { return pool_->is_pinned(slot_); }

checksum chunk_lease::sum() const { return pool_->record(slot_).content.sum; }

chunk_fill& chunk_fill::operator=(chunk_fill&& other) noexcept {
  std::swap(pool_, other.pool_);
  std::swap(slot_, other.slot_);
  std::swap(length_, other.length_);
  return *this;
}

void chunk_fill::drop() {
  if (auto* pool = std::exchange(pool_, nullptr))
    pool->end_fill(slot_);
}

std::span<std::byte> chunk_fill::room() const { return {pool_->data(slot_), length_}; }

} // namespace troupe::storage
