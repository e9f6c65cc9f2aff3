#include "policies/backoff.hpp"

#include <gtest/gtest.h>

namespace troupe::policies {
namespace {

using namespace std::chrono_literals;

TEST(jittered_pause, lies_between_a_half_and_the_whole_of_a_doubling_pause) {
  std::mt19937_64 random{1};
  auto whole = duration{100ms};
  for (unsigned failures = 1; failures < 12; ++failures) {
    duration least = whole, most{};
    for (int i = 0; i < 1000; ++i) {
      const auto pause = jittered_pause(100ms, 5s, failures, random);
      EXPECT_GE(pause, whole / 2);
      EXPECT_LE(pause, whole);
      least = std::min(least, pause);
      most = std::max(most, pause);
    }
    EXPECT_LT(least, whole * 55 / 100);
    EXPECT_GT(most, whole * 95 / 100);
    whole = std::min<duration>(whole * 2, 5s);
  }
}

TEST(jittered_pause, the_same_dice_give_the_same_pause) {
  std::mt19937_64 a{7}, b{7};
  EXPECT_EQ(jittered_pause(1s, 9s, 3, a), jittered_pause(1s, 9s, 3, b));
  EXPECT_LE(jittered_pause(1s, 2s, 4'000'000'000u, a), 2s);
}

} // namespace
} // namespace troupe::policies
