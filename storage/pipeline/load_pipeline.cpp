#include "storage/pipeline/load_pipeline.hpp"

#include <algorithm>
#include <cassert>
#include <utility>

#include "storage/errors.hpp"

namespace troupe::storage {

namespace {

/// The rate forgets what is older than so many seconds of reading. Long, as chunks that differ in
/// nothing but the moment at which the disk was fast or slow shall not differ in what they are
/// worth.
constexpr double rate_memory_seconds = 30;
/// Bytes per second of a disk that nothing was read from yet.
constexpr double unknown_rate = 1e9;

uint32_t window_of(const chunk_pool& pool, const load_pipeline_options& options) {
  return std::max(std::min(pool.chunk_count() / 4, options.chunks_in_flight), 1u);
}

instant now() { return std::chrono::steady_clock::now(); }

} // namespace

load_pipeline::load_pipeline(std::shared_ptr<chunk_pool> pool, load_pipeline_options options)
    : pool_{std::move(pool)}, window_{window_of(*pool_, options)}, workers_{options.workers} {
  pool_->on_room([conductor = conductor_, room = room_] {
    ++*room;
    conductor->wake();
  });
  conducting_ = std::thread{[this] { conduct(); }};
}

load_pipeline::~load_pipeline() {
  std::vector<std::shared_ptr<load>> left;
  {
    const std::lock_guard guard{mutex_};
    stopping_ = true;
    left.assign(loads_.begin(), loads_.end());
  }
  for (const auto& one : left)
    one->cancel();
  conductor_->wake();
  conducting_.join();
  pool_->on_room({});
}

std::shared_ptr<load> load_pipeline::start(load_plan plan, load_priority priority,
                                           load_events events) {
  for ([[maybe_unused]] const auto& range : plan.ranges)
    assert(range.file < plan.files.size() &&
           range.offset + range.length <= plan.files[range.file].origin->size_bytes());
  const std::shared_ptr<load> out{new load{std::move(plan), std::move(events), priority, now(),
                                           conductor_, pool_->chunk_bytes()}};
  // Or what is read of it would take the place of what is held of it and has yet to be verified.
  std::vector<chunk_key> keys;
  keys.reserve(out->chunks_.size());
  for (size_t i = 0; i < out->chunks_.size(); ++i)
    keys.push_back(key_of(*out, i));
  pool_->expect(keys, out->began_);
  pool_->begin_load();
  {
    const std::lock_guard guard{mutex_};
    loads_.push_back(out);
  }
  conductor_->wake();
  return out;
}

double load_pipeline::origin_rate() const {
  const std::lock_guard guard{mutex_};
  return read_seconds_ > 0 ? read_bytes_ / read_seconds_ : 0;
}

double load_pipeline::reload_seconds(uint64_t length) const {
  const auto rate = origin_rate();
  return static_cast<double>(length) / (rate > 0 ? rate : unknown_rate);
}

void load_pipeline::on_landed(std::function<void()> callback) {
  const std::lock_guard guard{callback_mutex_};
  landed_callback_ = std::move(callback);
}

void load_pipeline::conduct() {
  for (;;) {
    conductor_->wait();
    pump();
    bool last = false;
    std::vector<std::shared_ptr<load>> finished;
    {
      const std::lock_guard guard{mutex_};
      finished = take_finished();
      last = stopping_ && loads_.empty() && in_flight_ == 0;
    }
    for (const auto& one : finished) {
      finish(*one);
      pool_->end_load();
    }
    if (last)
      return;
  }
}

void load_pipeline::pump() {
  while (const auto what = next())
    workers_.post([this, what] { process(what); });
}

chunk_key load_pipeline::key_of(const load& who, size_t index) const {
  const auto& chunk = who.chunks_[index];
  return {who.plan_.files[chunk.file].origin->key(), chunk.offset};
}

load::way load_pipeline::way_of(load& who, size_t index) {
  auto& comes = who.chunks_[index].comes;
  if (comes == load::way::unknown)
    comes = pool_->holds(key_of(who, index)) ? load::way::from_pool : load::way::by_reading;
  return comes;
}

std::optional<size_t> load_pipeline::next_by(load& who, load::way how) {
  if (!has_room(how))
    return std::nullopt;
  auto& at = how == load::way::by_reading ? who.next_read_ : who.next_held_;
  while (at < who.chunks_.size() && way_of(who, at) != how)
    ++at;
  return at < who.chunks_.size() ? std::optional{at} : std::nullopt;
}

std::optional<size_t> load_pipeline::next_of(load& who) {
  if (!who.again_.empty()) {
    if (!has_room(load::way::by_reading))
      return std::nullopt;
    const auto out = who.again_.back();
    who.again_.pop_back();
    return out;
  }
  while (who.may_go_on()) {
    std::optional<size_t> out;
    if (!who.any_order()) {
      if (has_room(way_of(who, who.asked_)))
        out = who.asked_;
    } else if (!(out = next_by(who, load::way::by_reading))) {
      // The slower way first: it is what the load will take.
      out = next_by(who, load::way::from_pool);
    }
    if (!out)
      return std::nullopt;
    ++who.asked_;
    if (std::exchange(who.chunks_[*out].comes, load::way::asked) == load::way::from_pool ||
        !who.park(*out))
      return out;
  }
  return std::nullopt;
}

std::shared_ptr<load_pipeline::flight> load_pipeline::next() {
  const std::lock_guard guard{mutex_};
  std::vector<std::shared_ptr<load>> turns{loads_.begin(), loads_.end()};
  std::stable_sort(turns.begin(), turns.end(), [](const auto& a, const auto& b) {
    return a->priority_.load() > b->priority_.load();
  });
  if (blocked_at_ == room_->load())
    return nullptr;
  for (const auto& who : turns) {
    who->take_arrived();
    while (!who->stopped_) {
      const auto index = next_of(*who);
      if (!index)
        break;
      ++who->pending_;
      const auto key = key_of(*who, *index);
      const waiter me{who, *index};
      if (const auto known = flights_.find(key); known != flights_.end()) {
        known->second->waiters.push_back(me);
        continue;
      }
      const auto& chunk = who->chunks_[*index];
      const auto out = std::make_shared<flight>();
      out->key = key;
      out->file = who->plan_.files[chunk.file];
      out->length = chunk.length;
      out->held = pool_->holds(key);
      out->used = who->began_;
      out->waiters.push_back(me);
      flights_.emplace(key, out);
      ++in_flight_;
      holding_ += out->held;
      return out;
    }
  }
  return nullptr;
}

void load_pipeline::process(const std::shared_ptr<flight>& what) {
  if (auto held = find_held(*what))
    return land(*what, std::move(held), chunk_place::pool, {});
  // Looked at before the attempt: room that comes after it ends the wait at once.
  const auto room = room_->load();
  auto fill = pool_->begin(what->length, what->used);
  if (!fill && pool_->starved())
    return land(*what, {}, chunk_place::origin,
                caf::make_error(errc::no_memory, "loading " + what->file.origin->name() +
                                                     ": the machine has no memory for the host "
                                                     "pool; lower storage.pool_memory"));
  if (!fill)
    return put_back(*what, room);
  what->fill = std::move(*fill);
  read(what);
}

chunk_lease load_pipeline::find_held(const flight& what) {
  auto& sums = *what.file.sums;
  const auto known = sums.expected(what.key.offset);
  auto held = pool_->find(what.key, what.used);
  if (!held && known)
    held = pool_->find_content(*known, what.length, what.key, what.used);
  if (!held)
    return {};
  const auto expected = known.value_or(held->sum());
  if (held->sum() == expected && checksum_of(held->bytes()) == expected &&
      !sums.check(what.key.offset, expected))
    return std::move(*held);
  pool_->discard(*held); // memory rotted, or the record did: what the disk says counts
  return {};
}

void load_pipeline::put_back(flight& what, uint64_t room) {
  std::vector<waiter> waiters;
  {
    const std::lock_guard guard{mutex_};
    blocked_at_ = room;
    --in_flight_;
    holding_ -= what.held;
    flights_.erase(what.key);
    for (auto& [who, index] : what.waiters) {
      who->again_.push_back(index);
      --who->pending_;
    }
  }
  conductor_->wake();
}

void load_pipeline::read(const std::shared_ptr<flight>& what) {
  auto& origin = *what->file.origin;
  const auto room = what->fill.room();
  const bool cached = origin.is_cached(what->key.offset, room.size());
  what->from = cached ? chunk_place::page_cache : chunk_place::origin;
  if (!cached) // says nothing about what reading it again will take
    begin_reading();
  origin.read(what->key.offset, room, [this, what, cached, bytes = room.size()](caf::error why) {
    if (!cached)
      end_reading(why ? 0 : bytes);
    // Somebody waits for this one; for the next ones the disk does.
    workers_.post_urgent(
        [this, what, why = std::move(why)]() mutable { arrived(what, std::move(why)); });
  });
}

void load_pipeline::begin_reading() {
  const std::lock_guard guard{mutex_};
  if (reading_++ == 0)
    reading_since_ = now();
}

void load_pipeline::end_reading(uint64_t bytes) {
  const std::lock_guard guard{mutex_};
  const auto at = now();
  const double seconds =
      std::chrono::duration<double>(at - std::exchange(reading_since_, at)).count();
  read_bytes_ += static_cast<double>(bytes);
  read_seconds_ += seconds;
  if (read_seconds_ > rate_memory_seconds) {
    read_bytes_ *= rate_memory_seconds / read_seconds_;
    read_seconds_ = rate_memory_seconds;
  }
  --reading_;
}

void load_pipeline::arrived(const std::shared_ptr<flight>& what, caf::error why) {
  chunk_lease lease;
  if (!why) {
    auto& sums = *what->file.sums;
    const auto sum = checksum_of(what->fill.room());
    const auto expected = sums.expected(what->key.offset);
    // One bad transfer is no damaged file yet.
    if (expected && *expected != sum && !std::exchange(what->read_again, true))
      return read(what);
    why = sums.check(what->key.offset, sum);
    if (why)
      (void)sums.save(false);
    if (!why)
      lease = pool_->publish(std::move(what->fill), what->key, sum, reload_seconds(what->length),
                             what->used);
  }
  what->fill.drop();
  land(*what, std::move(lease), what->from, std::move(why));
}

void load_pipeline::land(flight& what, chunk_lease lease, chunk_place from, caf::error why) {
  std::vector<waiter> waiters;
  {
    const std::lock_guard guard{mutex_};
    // From here on the next load finds the chunk in the pool.
    flights_.erase(what.key);
    waiters = std::move(what.waiters);
    --in_flight_;
    holding_ -= what.held;
  }
  for (size_t i = 0; i < waiters.size(); ++i) {
    auto& [who, index] = waiters[i];
    const bool last = i + 1 == waiters.size();
    if (why)
      who->fail(last ? std::move(why) : why);
    else
      who->deliver(index, last ? std::move(lease) : pool_->share(lease), from);
  }
  {
    const std::lock_guard guard{mutex_};
    for (auto& [who, index] : waiters)
      --who->pending_;
  }
  conductor_->wake();
  const std::lock_guard guard{callback_mutex_};
  if (landed_callback_)
    landed_callback_();
}

std::vector<std::shared_ptr<load>> load_pipeline::take_finished() {
  std::vector<std::shared_ptr<load>> out;
  for (auto at = loads_.begin(); at != loads_.end();) {
    if ((*at)->over()) {
      out.push_back(std::move(*at));
      at = loads_.erase(at);
    } else {
      ++at;
    }
  }
  return out;
}

void load_pipeline::finish(load& who) {
  caf::error why;
  {
    const std::lock_guard guard{who.mutex_};
    why = std::move(who.why_);
  }
  for (const auto& file : who.plan_.files) {
    if (!why)
      why = file.origin->check_unchanged();
    (void)file.sums->save(!why);
  }
  if (who.events_.done)
    who.events_.done(std::move(why));
}

} // namespace troupe::storage
