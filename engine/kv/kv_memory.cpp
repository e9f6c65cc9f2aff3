#include "engine/kv/kv_memory.hpp"

#include <algorithm>
#include <bit>
#include <limits>
#include <string>

#include "engine/errors.hpp"

namespace troupe::engine {

namespace {

constexpr uint64_t usual_span_bytes = uint64_t{4} << 20;
/// With fewer spans models could not share them by need.
constexpr uint64_t spans_wanted = 64;

} // namespace

caf::expected<std::shared_ptr<kv_memory>>
kv_memory::create(gpu::device& device, uint64_t size_bytes, uint64_t span_bytes) {
  constexpr auto granule = static_cast<uint64_t>(gpu::kv_granule);
  if (span_bytes == 0)
    span_bytes = std::clamp(std::bit_floor(size_bytes / spans_wanted), granule, usual_span_bytes);
  const auto spans = std::min<uint64_t>(size_bytes / span_bytes,
                                        std::numeric_limits<int32_t>::max() * granule / span_bytes);
  auto buffer = device.allocate(spans * span_bytes);
  if (!buffer)
    return caf::make_error(errc::out_of_memory,
                           "allocating a KV arena of " + std::to_string(spans * span_bytes) +
                               " bytes on " + device.name() + ": " + describe(buffer.error()));
  return std::shared_ptr<kv_memory>{new kv_memory{device, std::move(*buffer), span_bytes, spans}};
}

kv_memory::kv_memory(gpu::device& device, gpu::buffer buffer, uint64_t span_bytes, size_t spans)
    : device_{device}, buffer_{std::move(buffer)}, span_bytes_{span_bytes}, owners_(spans),
      is_guarded_(spans), free_{spans} {}

void kv_memory::join(kv_borrower& who) {
  borrowers_.push_back(&who);
  holdings_.reserve(borrowers_.size());
}

void kv_memory::leave(kv_borrower& who) {
  std::erase(borrowers_, &who);
  for (auto& one : owners_)
    if (one.who == &who) {
      one = {};
      ++free_;
    }
}

void kv_memory::survey() {
  holdings_.clear();
  for (const auto* one : borrowers_)
    holdings_.push_back(one->holding());
}

size_t kv_memory::index_of(const kv_borrower& who) const {
  return static_cast<size_t>(std::find(borrowers_.begin(), borrowers_.end(), &who) -
                             borrowers_.begin());
}

uint64_t kv_memory::within_reach(const kv_borrower& who) {
  survey();
  return policies::within_reach(holdings_, index_of(who), free_, spans());
}

kv_memory::lent kv_memory::lend(kv_borrower& who, int32_t slot, const policies::kv_plea& plea) {
  using policies::kv_relief;
  const auto me = index_of(who);
  const auto count = static_cast<int32_t>(plea.spans);
  auto now = plea;
  for (;;) {
    survey();
    const auto next = policies::relieve(holdings_, me, now, free_, spans());
    switch (next.how) {
    case kv_relief::borrow:
      if (const auto first = room_for(count)) {
        take(*first, {&who, slot, *first, count});
        return {kv_relief::borrow, *first};
      }
      now.spans = free_ + 1; // enough, but not where they are of use
      break;
    case kv_relief::spare:
      borrowers_[next.whom]->give_up_spare();
      break;
    case kv_relief::push_out:
      borrowers_[next.whom]->push_out();
      break;
    case kv_relief::own_block:
    case kv_relief::none:
      return {next.how, 0};
    }
  }
}

void kv_memory::take(int32_t first, const owner& by) {
  std::fill_n(owners_.begin() + first, by.count, by);
  free_ -= static_cast<uint64_t>(by.count);
}

void kv_memory::give_back(int32_t first) {
  const auto count = owners_[static_cast<size_t>(first)].count;
  std::fill_n(owners_.begin() + first, count, owner{});
  free_ += static_cast<uint64_t>(count);
}

/// The lowest of the free runs of so many spans that nobody clears for another one.
std::optional<int32_t> kv_memory::free_run(int32_t count) const {
  for (int32_t first = 0; first + count <= static_cast<int32_t>(spans()); first += count) {
    const auto is_taken = [&](int32_t span) {
      const auto at = static_cast<size_t>(span);
      return owners_[at].who != nullptr || is_guarded_[at] != 0;
    };
    auto span = first;
    while (span < first + count && !is_taken(span))
      ++span;
    if (span == first + count)
      return first;
  }
  return std::nullopt;
}

/// Where a run of so many spans would have the least to move out of its way: smaller runs only.
std::optional<int32_t> kv_memory::emptiest_window(int32_t count) const {
  std::optional<int32_t> out;
  int32_t fewest = count;
  for (int32_t first = 0; first + count <= static_cast<int32_t>(spans()); first += count) {
    int32_t taken = 0;
    for (auto span = first; span < first + count; ++span) {
      const auto& one = owners_[static_cast<size_t>(span)];
      const bool is_fixed = one.count >= count || is_guarded_[static_cast<size_t>(span)] != 0;
      taken += is_fixed ? count : one.who != nullptr;
    }
    if (taken < fewest) {
      fewest = taken;
      out = first;
    }
  }
  return out;
}

/// Moves what lies in a window elsewhere, the largest runs first.
bool kv_memory::clear(int32_t window, int32_t count) {
  std::fill_n(is_guarded_.begin() + window, count, char{1});
  bool is_clear = true;
  for (auto size = count / 2; size > 0 && is_clear; size /= 2)
    for (auto first = window; first < window + count && is_clear; first += size) {
      const auto& one = owners_[static_cast<size_t>(first)];
      if (one.who == nullptr || one.count != size)
        continue;
      const auto to = room_for(size);
      is_clear = to.has_value();
      if (to)
        move(first, *to);
    }
  std::fill_n(is_guarded_.begin() + window, count, char{0});
  return is_clear;
}

std::optional<int32_t> kv_memory::room_for(int32_t count) {
  if (const auto found = free_run(count))
    return found;
  const auto window = emptiest_window(count);
  return window && clear(*window, count) ? window : std::nullopt;
}

void kv_memory::move(int32_t from, int32_t to) {
  auto run = owners_[static_cast<size_t>(from)];
  device_.copy(base() + static_cast<uint64_t>(to) * span_bytes_,
               base() + static_cast<uint64_t>(from) * span_bytes_,
               static_cast<uint64_t>(run.count) * span_bytes_);
  give_back(from);
  run.first = to;
  take(to, run);
  run.who->moved(run.slot, to);
}

} // namespace troupe::engine
