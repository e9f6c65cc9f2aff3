#include "policies/place_wait.hpp"

#include <cmath>

#include <gtest/gtest.h>

namespace troupe::policies {
namespace {

TEST(place_wait, is_nothing_as_long_as_there_is_a_free_place) {
  EXPECT_EQ(place_wait(0, 1, 7, 10), 0);
  EXPECT_EQ(place_wait(2, 3, 5, 10), 0);
}

TEST(place_wait, grows_with_those_ahead_and_shrinks_with_those_that_run) {
  EXPECT_NEAR(place_wait(0, 0, 4, 8), 2, 1e-9);
  EXPECT_NEAR(place_wait(3, 0, 4, 8), 8, 1e-9);
  EXPECT_NEAR(place_wait(3, 2, 4, 8), 4, 1e-9);
  EXPECT_NEAR(place_wait(0, 0, 0, 8), 8, 1e-9);
}

TEST(service_time, follows_what_it_sees) {
  service_time x;
  EXPECT_EQ(x.seconds(), 0);
  x.learn(4);
  EXPECT_EQ(x.seconds(), 4);
  for (int i = 0; i < 100; ++i)
    x.learn(2);
  EXPECT_NEAR(x.seconds(), 2, 0.01);
  x.learn(NAN);
  x.learn(-1);
  EXPECT_NEAR(x.seconds(), 2, 0.01);
}

} // namespace
} // namespace troupe::policies
