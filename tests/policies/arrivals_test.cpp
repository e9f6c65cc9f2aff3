#include "policies/arrivals.hpp"

#include <random>

#include <gtest/gtest.h>

namespace troupe::policies {
namespace {

using namespace std::chrono_literals;
const model_id clockwork{"clockwork"}, bursty{"bursty"}, unknown{"unknown"};
const instant start = instant{} + 1h;

/// `clockwork` every ten minutes, `bursty` five times within a minute every two hours.
arrivals two_days(instant& now) {
  arrivals out;
  for (auto at = 0min; at < 48h; at += 1min) {
    now = start + at;
    if (at % 10min == 0min)
      out.note(clockwork, now);
    if (at % 2h == 0min)
      for (int i = 0; i < 5; ++i)
        out.note(bursty, now + i * 12s);
  }
  return out;
}

TEST(arrivals, a_model_that_was_never_asked_for_is_not_expected) {
  instant now;
  const auto seen = two_days(now);
  EXPECT_EQ(seen.use_within(unknown, now, 1h), 0);
  EXPECT_EQ(seen.rate(unknown, now), 0);
}

TEST(arrivals, regular_requests_are_expected_when_they_are_due) {
  instant now;
  const auto seen = two_days(now);
  EXPECT_GT(seen.use_within_after(clockwork, 9min, 9min), 0.7);
  EXPECT_LT(seen.use_within_after(clockwork, 1min, 2min), 0.2);
}

TEST(arrivals, in_a_burst_the_next_request_is_near_and_after_it_far) {
  instant now;
  const auto seen = two_days(now);
  EXPECT_GT(seen.use_within_after(bursty, 5s, 30s), 0.5);
  EXPECT_LT(seen.use_within_after(bursty, 10min, 30s), 0.05);
}

TEST(arrivals, chances_grow_with_the_horizon_and_stay_chances) {
  instant now;
  const auto seen = two_days(now);
  for (const auto& model : {clockwork, bursty})
    for (auto idle = 0s; idle < 24h; idle += 317s) {
      double last = 0;
      for (const auto horizon : {0s, 1s, 10s, 60s, 600s, 3600s, 86400s, 10'000'000s}) {
        const auto chance = seen.use_within_after(model, idle, horizon);
        EXPECT_GE(chance, last);
        EXPECT_LE(chance, 1);
        last = chance;
      }
    }
}

TEST(arrivals, a_model_seen_once_is_judged_by_what_the_others_do) {
  instant now;
  auto seen = two_days(now);
  seen.note(unknown, now);
  const auto chance = seen.use_within_after(unknown, 5s, 30s);
  EXPECT_GT(chance, 0.1);
  EXPECT_LT(chance, 0.9);
}

TEST(arrivals, keeping_pays_for_dear_loads_and_short_pauses) {
  instant now;
  const auto seen = two_days(now);
  constexpr double price = 1 / 3600.0;
  EXPECT_GE(seen.worth_keeping(clockwork, 10, price), 10min) << "the next request is sure to come";
  EXPECT_LE(seen.worth_keeping(clockwork, 0.01, price), 1min);
  const auto burst = seen.worth_keeping(bursty, 2, 8 * price);
  EXPECT_GE(burst, 16s);
  EXPECT_LE(burst, 20min) << "the pause between bursts is not worth it";
  EXPECT_EQ(seen.worth_keeping(bursty, 0, price), 0s);
  EXPECT_LE(seen.worth_keeping(bursty, 1e9, 0), 24h);
}

TEST(arrivals, follows_a_model_that_changes_its_habits) {
  instant now;
  auto seen = two_days(now);
  for (int i = 0; i < 200; ++i)
    seen.note(clockwork, now += 2s);
  EXPECT_GT(seen.use_within_after(clockwork, 1s, 4s), 0.7);
}

} // namespace
} // namespace troupe::policies
