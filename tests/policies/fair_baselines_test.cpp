#include "policies/fair_baselines.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

namespace troupe::policies {
namespace {

using namespace std::chrono_literals;

fair_request request(uint64_t id, uint64_t tenant, uint32_t input = 10) {
  fair_request out{.id = id, .input_tokens = input};
  out.shares[0].id = tenant;
  return out;
}

std::vector<uint64_t> drain(fair_queue& queue) {
  std::vector<uint64_t> out;
  while (const auto x = queue.take())
    out.push_back(x->id);
  return out;
}

TEST(fcfs_queue, goes_by_arrival_whoever_asks) {
  fcfs_queue queue;
  for (uint64_t id = 1; id <= 4; ++id)
    queue.arrive(request(id, id % 2), {});
  EXPECT_TRUE(queue.remove(2));
  EXPECT_EQ(drain(queue), (std::vector<uint64_t>{1, 3, 4}));
}

TEST(fcfs_queue, a_rate_limit_counts_accepted_arrivals_of_exactly_one_minute) {
  fcfs_queue queue{2};
  const instant start{};
  EXPECT_EQ(queue.arrive(request(1, 7), start), fair_arrival::queued);
  EXPECT_EQ(queue.arrive(request(2, 7), start + 30s), fair_arrival::queued);
  EXPECT_EQ(queue.arrive(request(3, 7), start + 60s - 1ns), fair_arrival::limited);
  EXPECT_EQ(queue.arrive(request(4, 8), start + 60s - 1ns), fair_arrival::queued);
  EXPECT_EQ(queue.arrive(request(5, 7), start + 60s), fair_arrival::queued);
  EXPECT_EQ(queue.arrive(request(6, 7), start + 60s), fair_arrival::limited);
}

TEST(deficit_round_robin, takes_turns_by_what_was_spent) {
  deficit_round_robin queue{{}, 100};
  for (uint64_t id = 0; id < 300; ++id) {
    auto x = request(id, id % 3, 10 + 10 * static_cast<uint32_t>(id % 3));
    x.shares[0].weight = id % 3 == 2 ? 2 : 1;
    queue.arrive(x, {});
  }
  std::array<double, 3> spent{};
  for (int i = 0; i < 100; ++i) {
    const auto x = *queue.take();
    queue.charge(x.id, 5);
    queue.finish(x.id);
    spent[x.shares[0].id] += x.input_tokens + 2 * 5;
  }
  EXPECT_NEAR(spent[0] / spent[1], 1, 0.15);
  EXPECT_NEAR(spent[2] / spent[1], 2, 0.3);
}

TEST(fair_queues, are_made_by_name) {
  for (const auto* name : {"fcfs", "lcf", "vtc", "vtc-predict", "rpm-5", "drr", "drr-200"})
    EXPECT_NE(make_fair_queue(name, {}, 1000), nullptr) << name;
  for (const auto* name : {"", "rpm", "rpm-", "rpm-0", "rpm-x", "drr-0", "vtc-5"})
    EXPECT_EQ(make_fair_queue(name, {}, 1000), nullptr) << name;
}

/// Whatever the order: every request comes out once, unless it was withdrawn.
TEST(fair_queues, neither_lose_nor_repeat_requests) {
  for (const auto* name : {"fcfs", "lcf", "vtc", "vtc-predict", "drr", "drr-200"}) {
    const auto queue = make_fair_queue(name, {}, 1000);
    std::mt19937 random{7};
    std::set<uint64_t> waiting, running;
    uint64_t last = 0;
    for (int step = 0; step < 20'000; ++step) {
      const auto pick = [&](std::set<uint64_t>& from) {
        auto at = from.lower_bound(random() % (last + 1));
        at = at == from.end() ? from.begin() : at;
        const auto id = *at;
        from.erase(at);
        return id;
      };
      switch (random() % 6) {
      case 0:
      case 1:
        ASSERT_EQ(queue->arrive(request(++last, random() % 40), {}), fair_arrival::queued);
        waiting.insert(last);
        break;
      case 2:
        if (!waiting.empty()) {
          ASSERT_TRUE(queue->remove(pick(waiting)));
        }
        break;
      case 3:
        if (const auto x = queue->take()) {
          ASSERT_EQ(waiting.erase(x->id), 1u) << name;
          running.insert(x->id);
        } else {
          ASSERT_TRUE(waiting.empty());
        }
        break;
      case 4:
        if (!running.empty())
          queue->charge(*running.begin(), random() % 9);
        break;
      default:
        if (!running.empty())
          queue->finish(pick(running));
      }
      ASSERT_EQ(queue->waiting(), waiting.size());
    }
    EXPECT_LE(queue->tenants(), 40u);
  }
}

} // namespace
} // namespace troupe::policies
