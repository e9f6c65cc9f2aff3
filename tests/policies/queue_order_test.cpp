#include "policies/queue_order.hpp"

#include <gtest/gtest.h>

namespace troupe::policies {
namespace {

using namespace std::chrono_literals;
const instant start{};

waiting_sequence sequence(uint64_t number, duration accepted, bool resumed = false) {
  return {{number, 0}, 1, start + accepted, start + accepted, resumed};
}

TEST(fcfs_order, hands_out_by_time_of_acceptance) {
  fcfs_order queue;
  queue.push(sequence(1, 2s));
  queue.push(sequence(2, 1s));
  EXPECT_EQ(queue.oldest(), start + 1s);
  EXPECT_EQ(queue.pop()->id.number, 2u);
  EXPECT_EQ(queue.pop()->id.number, 1u);
  EXPECT_FALSE(queue.pop());
  EXPECT_FALSE(queue.oldest());
}

TEST(fcfs_order, resumed_sequences_go_first_in_their_old_order) {
  fcfs_order queue;
  queue.push(sequence(1, 1s));
  queue.push(sequence(3, 3s, true));
  queue.push(sequence(2, 2s, true));
  EXPECT_EQ(queue.pop()->id.number, 2u);
  EXPECT_EQ(queue.pop()->id.number, 3u);
  EXPECT_EQ(queue.pop()->id.number, 1u);
}

TEST(fcfs_order, a_sequence_is_in_it_once) {
  fcfs_order queue;
  queue.push(sequence(1, 1s));
  auto again = sequence(1, 1s, true);
  again.epoch = 2;
  queue.push(again);
  EXPECT_EQ(queue.size(), 1u);
  EXPECT_EQ(queue.pop(), again);
}

TEST(fcfs_order, erases_from_the_middle) {
  fcfs_order queue;
  for (uint64_t i = 1; i <= 3; ++i)
    queue.push(sequence(i, std::chrono::seconds{i}));
  EXPECT_TRUE(queue.erase({2, 0}));
  EXPECT_FALSE(queue.erase({2, 0}));
  EXPECT_TRUE(queue.contains({3, 0}));
  EXPECT_EQ(queue.pop()->id.number, 1u);
  EXPECT_EQ(queue.pop()->id.number, 3u);
}

} // namespace
} // namespace troupe::policies
