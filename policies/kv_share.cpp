#include "policies/kv_share.hpp"

#include <algorithm>

namespace troupe::policies {

namespace {

uint64_t fair_share(std::span<const kv_holding> all, size_t me, uint64_t total) {
  uint64_t sharers = 0;
  for (size_t i = 0; i < all.size(); ++i)
    sharers += i == me || all[i].sequences > 0;
  return total / sharers;
}

/// Whether it may lose a sequence to one that came at `came`, for being above its share.
bool has_one_to_lose(const kv_holding& other, uint64_t came) {
  return other.sequences > 1 || (other.sequences == 1 && other.youngest > came);
}

/// Of the others: a model's own blocks go one by one.
std::optional<size_t> oldest_spare(std::span<const kv_holding> all, size_t me) {
  std::optional<size_t> out;
  for (size_t i = 0; i < all.size(); ++i)
    if (i != me && all[i].spare > 0 && (!out || all[i].spare_since < all[*out].spare_since))
      out = i;
  return out;
}

/// Who has the most of those who have to make room.
std::optional<size_t> loser(std::span<const kv_holding> all, size_t me, const kv_plea& plea,
                            uint64_t total) {
  const auto share = fair_share(all, me, total);
  const bool is_below = all[me].held + plea.spans <= share;
  std::optional<size_t> out;
  for (size_t i = 0; i < all.size(); ++i) {
    const auto& other = all[i];
    if (i == me || other.sequences == 0 || other.held == 0)
      continue;
    const bool by_share = is_below && other.held > share && has_one_to_lose(other, plea.came);
    const bool by_age = plea.is_alone && other.youngest > plea.came;
    if ((by_share || by_age || other.is_stalled) && (!out || other.held > all[*out].held))
      out = i;
  }
  return out;
}

} // namespace

kv_decision relieve(std::span<const kv_holding> all, size_t me, const kv_plea& plea, uint64_t free,
                    uint64_t total) {
  if (plea.may_borrow && free >= plea.spans)
    return {kv_relief::borrow, me};
  const auto spare = plea.may_borrow ? oldest_spare(all, me) : std::nullopt;
  if (plea.own_oldest && (!spare || *plea.own_oldest <= all[*spare].spare_since))
    return {kv_relief::own_block, me};
  if (spare)
    return {kv_relief::spare, *spare};
  if (!plea.may_borrow || !plea.may_push_out || plea.spans > total)
    return {};
  for (size_t i = 0; i < all.size(); ++i)
    if (i != me && all[i].is_draft && all[i].held > 0)
      return {kv_relief::push_out, i};
  const auto whom = loser(all, me, plea, total);
  return whom ? kv_decision{kv_relief::push_out, *whom} : kv_decision{};
}

uint64_t within_reach(std::span<const kv_holding> all, size_t me, uint64_t free, uint64_t total) {
  const auto share = fair_share(all, me, total);
  auto out = free;
  uint64_t above = 0;
  for (size_t i = 0; i < all.size(); ++i) {
    const auto& other = all[i];
    if (i == me)
      continue;
    out += other.spare;
    if (other.is_draft || other.is_stalled)
      out += other.held;
    else if (other.sequences > 1)
      above += other.held - std::min(other.held, share);
  }
  return out + std::min(above, share - std::min(share, all[me].held));
}

} // namespace troupe::policies
