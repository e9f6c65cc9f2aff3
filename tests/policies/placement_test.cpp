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
  out.takes = bytes;
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

placed_model worth(const char* name, uint64_t bytes, double reload_seconds, double use_rate) {
  auto out = idle(name, bytes, 9s);
  out.reload_seconds = reload_seconds;
  out.use_rate = use_rate;
  return out;
}

TEST(find_place, evicts_what_is_worth_least_for_its_size_whenever_it_was_used) {
  auto cheap = worth("cheap", 40, 1, 0.01);
  cheap.last_used = start + 99s;
  const auto place =
      find_place({{1, 100, {worth("dear", 40, 10, 0.01), cheap, worth("small", 5, 1, 0.1)}}}, 40);
  ASSERT_TRUE(place);
  EXPECT_EQ(place->evict, (ids{{"cheap"}}));
}

TEST(find_place, goes_where_the_model_runs_soonest) {
  const auto place = find_place({{1, 100, {}, 8}, {2, 60, {idle("a", 5, 1s)}, 2}}, 50);
  ASSERT_TRUE(place);
  EXPECT_EQ(place->worker, 2u);
}

TEST(find_place, a_slower_load_is_better_than_to_lose_what_is_asked_for_again_at_once) {
  const auto with_loss = [](double use_rate) {
    return find_place({{1, 100, {worth("busy", 80, 20, use_rate)}, 1}, {2, 100, {}, 5}}, 50);
  };
  EXPECT_EQ(with_loss(1)->worker, 2u);
  EXPECT_EQ(with_loss(1e-4)->worker, 1u);
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
  EXPECT_EQ(largest_space({{1, 100, {pinned}}, {2, 50, {}}}, 0), 60u);
  EXPECT_EQ(largest_space({}, 0), 0u);
}

placed_model with_workspace(const char* name, uint64_t bytes, uint64_t workspace_bytes,
                            duration last_used = 1s) {
  auto out = idle(name, 0, last_used);
  out.takes = {bytes, workspace_bytes};
  return out;
}

TEST(find_place, counts_one_workspace_for_all_models_of_a_worker) {
  const worker_space worker{1, 100, {with_workspace("a", 40, 20), with_workspace("b", 20, 10)}};
  const auto evicted = [&](const footprint& takes) {
    const auto place = find_place({worker}, takes);
    return place ? place->evict : ids{{"none"}};
  };
  EXPECT_EQ(evicted({20, 20}), ids{}); // 80 and a workspace of 20
  EXPECT_EQ(evicted({20, 21}), (ids{{"a"}}));
  EXPECT_EQ(evicted({21, 5}), (ids{{"a"}}));
  EXPECT_EQ(evicted({60, 20}), (ids{{"a"}}));
  EXPECT_EQ(evicted({60, 21}), (ids{{"a"}, {"b"}}));
  EXPECT_EQ(evicted({80, 21}), (ids{{"none"}}));
}

TEST(find_place, room_comes_from_a_large_workspace_that_goes_with_its_model) {
  const worker_space worker{
      1, 100, {with_workspace("wide", 10, 50, 1s), with_workspace("narrow", 40, 5, 2s)}};
  const auto place = find_place({worker}, {50, 10});
  ASSERT_TRUE(place);
  EXPECT_EQ(place->evict, (ids{{"wide"}}));
}

TEST(largest_space, holds_the_larger_workspace_once) {
  auto pinned = with_workspace("pinned", 40, 20);
  pinned.pinned = true;
  EXPECT_EQ(largest_space({{1, 100, {pinned}}}, 30), 60u); // weights of 30
  EXPECT_EQ(largest_space({{1, 100, {pinned}}}, 10), 50u); // weights of 40
  EXPECT_EQ(largest_space({{1, 100, {pinned}}}, 70), 0u);
}

} // namespace
} // namespace troupe::policies
