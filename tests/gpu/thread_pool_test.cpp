#include <gtest/gtest.h>

#include <ctime>
#include <numeric>
#include <set>

#include "gpu/cpu/thread_pool.hpp"

namespace troupe::gpu::cpu {
namespace {

TEST(thread_pool_test, every_task_runs_exactly_once) {
  for (const unsigned threads : {1u, 2u, 3u, 8u}) {
    thread_pool pool{threads};
    ASSERT_EQ(pool.size(), threads);
    for (const int64_t tasks : {0, 1, 2, 7, 1000}) {
      std::vector<int> runs(static_cast<size_t>(tasks), 0);
      pool.run(tasks, [&](int64_t task, unsigned) { ++runs[static_cast<size_t>(task)]; });
      EXPECT_EQ(runs, std::vector<int>(static_cast<size_t>(tasks), 1));
    }
  }
}

TEST(thread_pool_test, one_loop_sees_what_the_loop_before_wrote) {
  thread_pool pool{4};
  std::vector<int64_t> values(64, 0);
  for (int64_t round = 1; round <= 3000; ++round)
    pool.run(64, [&](int64_t task, unsigned) {
      auto& mine = values[static_cast<size_t>(task)];
      ASSERT_EQ(mine, round - 1);
      mine = round;
    });
  EXPECT_EQ(std::accumulate(values.begin(), values.end(), int64_t{0}), 64 * 3000);
}

TEST(thread_pool_test, a_thread_number_is_never_in_use_twice) {
  thread_pool pool{4};
  std::vector<std::atomic<bool>> busy(4);
  for (int round = 0; round < 200; ++round)
    pool.run(50, [&](int64_t, unsigned thread) {
      ASSERT_LT(thread, 4u);
      ASSERT_FALSE(busy[thread].exchange(true));
      busy[thread].store(false);
    });
}

TEST(thread_pool_test, helpers_share_a_loop_whose_tasks_wait_for_each_other) {
  thread_pool pool{2};
  for (int round = 0; round < 20; ++round) {
    std::atomic<int> arrived{0};
    pool.run(2, [&](int64_t, unsigned) {
      ++arrived;
      while (arrived.load() < 2)
        std::this_thread::yield();
    });
    EXPECT_EQ(arrived.load(), 2);
    // Longer than helpers spin, so that some rounds find them asleep.
    const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds{round * 20};
    while (std::chrono::steady_clock::now() < until)
      std::this_thread::yield();
  }
}

TEST(thread_pool_test, what_a_slow_thread_leaves_is_done_by_others) {
  thread_pool pool{3};
  for (int round = 0; round < 20; ++round) {
    std::atomic<int> others{0};
    pool.run(30, [&](int64_t task, unsigned) {
      if (task != 0)
        ++others;
      else
        while (others.load() < 29)
          std::this_thread::yield();
    });
    EXPECT_EQ(others.load(), 29);
  }
}

TEST(thread_pool_test, pools_come_and_go_while_helpers_wake) {
  for (int round = 0; round < 200; ++round) {
    thread_pool pool{3};
    std::atomic<int64_t> sum{0};
    if (round % 2 == 0)
      pool.run(10, [&](int64_t task, unsigned) { sum += task; });
    EXPECT_EQ(sum.load(), round % 2 == 0 ? 45 : 0);
  }
}

} // namespace
} // namespace troupe::gpu::cpu
