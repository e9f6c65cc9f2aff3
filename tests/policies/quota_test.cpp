#include "policies/quota.hpp"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace troupe::policies {
namespace {

using namespace std::chrono_literals;
const instant start{};

TEST(sliding_window, what_happened_counts_for_exactly_its_span) {
  sliding_window window{10, 60s};
  window.add(10, start);
  EXPECT_FALSE(window.fits(1, start + 60s - 1ns));
  EXPECT_TRUE(window.fits(10, start + 60s));
  EXPECT_EQ(window.wait(1, start + 20s), 40s);
  EXPECT_EQ(window.wait(11, start), std::nullopt);
  EXPECT_EQ(window.reset(start + 20s), 40s);
}

TEST(sliding_window, no_minute_holds_more_than_the_limit_wherever_it_begins) {
  sliding_window window{10, 60s};
  std::vector<instant> taken;
  for (auto now = start; now < start + 10min; now += 100ms)
    if (window.fits(1, now)) {
      window.add(1, now);
      taken.push_back(now);
    }
  EXPECT_EQ(taken.size(), 100u) << "and it lets through as much as it may";
  for (size_t i = 10; i < taken.size(); ++i)
    EXPECT_GE(taken[i] - taken[i - 10], 60s);
}

/// The same from a list of everything that ever happened.
struct brute_force {
  struct entry {
    instant at;
    uint64_t amount;
  };
  uint64_t limit;
  duration span;
  std::vector<entry> all{};
  uint64_t used(instant now) const {
    uint64_t sum = 0;
    for (const auto& x : all)
      sum += x.at <= now && now < x.at + span ? x.amount : 0;
    return sum;
  }
  std::optional<duration> wait(uint64_t amount, instant now) const {
    if (amount > limit)
      return std::nullopt;
    if (amount == 0 || used(now) + amount <= limit)
      return duration{0};
    duration best = span;
    for (const auto& x : all)
      if (const auto at = x.at + span; at > now && used(at) + amount <= limit)
        best = std::min(best, at - now);
    return best;
  }
};

TEST(sliding_window, agrees_with_brute_force_on_random_histories) {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    std::mt19937 random{seed};
    const uint64_t limit = 1 + random() % 100;
    const auto span = std::chrono::milliseconds{1 + random() % 1000};
    sliding_window window{limit, span};
    brute_force slow{limit, span};
    std::vector<std::pair<uint64_t, size_t>> open; // number in the window, place in the list
    auto now = start;
    for (int i = 0; i < 300; ++i) {
      now += std::chrono::milliseconds{random() % 3 == 0 ? 0 : random() % 100};
      const uint64_t amount = random() % 20;
      ASSERT_EQ(window.used(now), slow.used(now)) << "seed " << seed << " step " << i;
      ASSERT_EQ(window.wait(amount, now), slow.wait(amount, now)) << "seed " << seed;
      if (amount > 0 && window.fits(amount, now)) {
        open.emplace_back(window.add(amount, now), slow.all.size());
        slow.all.push_back({now, amount});
      }
      if (!open.empty() && random() % 2) {
        const auto [number, place] = open[random() % open.size()];
        const uint64_t after = random() % 10;
        window.correct(number, slow.all[place].amount, after, now);
        slow.all[place].amount = after;
      }
    }
  }
}

TEST(quota, counts_requests_places_and_tokens) {
  quota acme{{.rpm = 3, .tpm = 100, .concurrency = 2}};
  EXPECT_FALSE(acme.begin(start));
  EXPECT_FALSE(acme.begin(start + 1s));
  auto why = acme.begin(start + 2s);
  ASSERT_TRUE(why);
  EXPECT_EQ(why->kind, quota_kind::concurrency);
  acme.end();
  EXPECT_FALSE(acme.begin(start + 3s));
  acme.end();
  why = acme.begin(start + 4s);
  ASSERT_TRUE(why);
  EXPECT_EQ(why->kind, quota_kind::requests);
  EXPECT_EQ(why->retry_after, 56s) << "when the first one is a minute old";
}

TEST(quota, reserves_before_and_settles_after) {
  quota acme{{.rpm = 0, .tpm = 100}};
  quota::reservation first, second;
  EXPECT_FALSE(acme.reserve(80, start, first));
  auto why = acme.reserve(30, start + 10s, second);
  ASSERT_TRUE(why);
  EXPECT_EQ(why->kind, quota_kind::tokens);
  EXPECT_EQ(why->retry_after, 50s);
  acme.settle(first, 20, start + 11s);
  EXPECT_FALSE(acme.reserve(80, start + 11s, second));
  EXPECT_EQ(acme.tokens().left(start + 11s), 0u);
  why = acme.reserve(101, start + 12s, second);
  ASSERT_TRUE(why);
  EXPECT_FALSE(why->ever) << "more than a minute's worth";
}

TEST(quota, without_limits_everything_passes_and_nothing_is_kept) {
  quota open{{}};
  quota::reservation some;
  for (int i = 0; i < 1000; ++i) {
    EXPECT_FALSE(open.begin(start));
    EXPECT_FALSE(open.reserve(1'000'000, start, some));
  }
  EXPECT_EQ(open.running(), 1000u);
}

} // namespace
} // namespace troupe::policies
