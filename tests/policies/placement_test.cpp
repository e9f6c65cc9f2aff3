#include "policies/placement.hpp"

#include <gtest/gtest.h>

namespace troupe::policies {
namespace {

using namespace std::chrono_literals;
const instant start{};
using ids = std::vector<model_id>;

placed_model idle(const char* name, uint64_t bytes, duration last_used) {
  placed_model out;
  out.model = {name};
  out.bytes = bytes;
  out.idle = true;
  out.last_used = start + last_used;
  return out;
}

placed_model busy(const char* name, uint64_t bytes, duration last_used) {
  auto out = idle(name, bytes, last_used);
  out.idle = false;
  out.closable = true;
  return out;
}

TEST(find_place, prefers_a_worker_with_free_room_to_an_eviction) {
  const auto place = find_place({{1, 100, {idle("a", 80, 1s)}}, {2, 100, {}}}, 50);
  ASSERT_TRUE(place);
  EXPECT_EQ(place->worker, 2u);
  EXPECT_TRUE(place->evict.empty());
}

TEST(find_place, evicts_the_least_recently_used_and_no_more_than_needed) {
  const auto place =
      find_place({{1, 100, {idle("new", 40, 9s), idle("old", 40, 1s), idle("older", 10, 2s)}}}, 40);
  ASSERT_TRUE(place);
  EXPECT_EQ(place->evict, (ids{{"old"}}));
}

TEST(find_place, never_evicts_what_is_busy_or_pinned) {
  auto pinned = idle("pinned", 40, 1s);
  pinned.pinned = true;
  EXPECT_FALSE(find_place({{1, 100, {pinned, busy("busy", 40, 1s)}}}, 50));
}

TEST(find_place, does_not_overflow_when_a_model_is_larger_than_everything) {
  EXPECT_FALSE(find_place({{1, 100, {idle("a", 50, 1s)}}}, UINT64_MAX));
}

TEST(find_models_to_close, names_the_least_recently_used_busy_model_that_suffices) {
  const auto close = find_models_to_close({{1, 100, {busy("a", 50, 2s), busy("b", 50, 1s)}}}, 40);
  ASSERT_EQ(close.size(), 1u);
  EXPECT_EQ(close[0], (std::pair<worker_id, model_id>{1, {"b"}}));
}

TEST(find_models_to_close, counts_on_what_is_idle_or_leaving_first) {
  auto leaving = idle("leaving", 50, 9s);
  leaving.idle = false;
  leaving.leaving = true;
  EXPECT_TRUE(find_models_to_close({{1, 100, {leaving, busy("b", 50, 1s)}}}, 40).empty());
}

TEST(largest_space, leaves_out_pinned_models) {
  auto pinned = idle("pinned", 40, 1s);
  pinned.pinned = true;
  EXPECT_EQ(largest_space({{1, 100, {pinned}}, {2, 50, {}}}), 60u);
  EXPECT_EQ(largest_space({}), 0u);
}

} // namespace
} // namespace troupe::policies
