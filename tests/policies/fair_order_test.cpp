#include "policies/fair_order.hpp"

#include <gtest/gtest.h>

namespace troupe::policies {
namespace {

using namespace std::chrono_literals;

waiting_sequence sequence(uint64_t number, uint64_t tenant, uint32_t input = 10) {
  waiting_sequence out{.id = {number, 0}, .epoch = 1};
  out.accepted = out.since = instant{} + std::chrono::seconds{number};
  out.tenant.id = tenant;
  out.tenant_name = "t" + std::to_string(tenant);
  out.input_tokens = input;
  out.output_max = 50;
  return out;
}

uint64_t pop(fair_order& queue) { return queue.pop()->id.number; }

TEST(fair_order, tenants_take_turns_whoever_came_first) {
  fair_order queue;
  for (uint64_t i = 1; i <= 3; ++i)
    queue.push(sequence(i, 7));
  queue.push(sequence(4, 8));
  EXPECT_EQ(queue.oldest(), instant{} + 1s);
  EXPECT_EQ(pop(queue), 1u);
  EXPECT_EQ(pop(queue), 4u);
  EXPECT_EQ(queue.oldest(), instant{} + 2s);
  EXPECT_EQ(queue.size(), 2u);
}

TEST(fair_order, output_is_charged_to_whoever_runs) {
  fair_order queue;
  for (uint64_t i = 1; i <= 6; ++i)
    queue.push(sequence(i, i % 2));
  EXPECT_EQ(pop(queue), 1u);
  queue.charge({1, 0}, 100, 0);
  EXPECT_EQ(pop(queue), 2u);
  EXPECT_EQ(pop(queue), 4u);
  EXPECT_EQ(pop(queue), 6u);
  queue.finish({1, 0});
  queue.charge({1, 0}, 1000, 0);
  EXPECT_EQ(pop(queue), 3u);
}

TEST(fair_order, resumed_sequences_come_first_and_pay_their_prompt_once) {
  fair_order queue;
  queue.push(sequence(1, 7, 100));
  queue.push(sequence(2, 8, 100));
  EXPECT_EQ(pop(queue), 1u);
  auto again = sequence(1, 7, 100);
  again.epoch = 2;
  again.resumed = true;
  queue.push(again);
  queue.push(sequence(3, 7, 100));
  EXPECT_EQ(queue.list().front().id.number, 1u);
  EXPECT_EQ(queue.pop()->epoch, 2u);
  EXPECT_EQ(pop(queue), 2u);
  EXPECT_EQ(pop(queue), 3u);
  EXPECT_EQ(queue.pop(), std::nullopt);
  const auto served = queue.take_services();
  double total = 0;
  for (const auto& x : served)
    total += x.amount;
  EXPECT_EQ(total, 300);
}

TEST(fair_order, who_may_not_take_a_place_holds_back_all_but_its_equals) {
  fair_order queue;
  for (uint64_t i = 1; i <= 3; ++i)
    queue.push(sequence(i, 7));
  const auto not_7 = [](const fair_share& x) { return x.id != 7; };
  EXPECT_EQ(queue.pop(not_7), std::nullopt);
  EXPECT_EQ(queue.size(), 3u);
  EXPECT_EQ(pop(queue), 1u);
  queue.push(sequence(4, 8)); // lifted to the counter of 7
  EXPECT_EQ(queue.pop(not_7)->id.number, 4u);
  queue.push(sequence(5, 8)); // has had more than 7 now
  EXPECT_EQ(queue.pop(not_7), std::nullopt);
  EXPECT_EQ(pop(queue), 2u);
}

TEST(fair_order, what_was_found_in_the_cache_is_given_back) {
  fair_order queue{{.cost = {.input = 1, .cached = 0.1, .output = 2}}};
  queue.push(sequence(1, 7, 1000));
  pop(queue);
  queue.charge({1, 0}, 1, 900);
  double total = 0;
  for (const auto& x : queue.take_services())
    total += x.amount;
  EXPECT_NEAR(total, 100 + 90 + 2, 1e-9);
}

TEST(fair_order, knows_about_how_many_come_before_whom) {
  fair_order queue;
  EXPECT_EQ(queue.ahead_of({7, 1}, 1), 0u);
  for (uint64_t i = 1; i <= 10; ++i)
    queue.push(sequence(i, 7));
  EXPECT_EQ(queue.ahead_of({7, 1}, 1), 9u) << "one tenant alone waits in line";
  EXPECT_EQ(queue.ahead_of({7, 1}, 4), 6u) << "choices of one request do not wait for each other";
  queue.push(sequence(11, 8));
  EXPECT_EQ(queue.ahead_of({8, 1}, 1), 0u) << "the first of another goes first, or nearly";
  queue.push(sequence(12, 8));
  queue.push(sequence(13, 8));
  EXPECT_EQ(queue.ahead_of({8, 1}, 1), 2u + 2u);
  auto heavy = sequence(14, 9);
  heavy.tenant.weight = 4;
  for (int i = 0; i < 5; ++i, ++heavy.id.number)
    queue.push(heavy);
  EXPECT_EQ(queue.ahead_of({9, 4}, 1), 4u + 1u + 1u);
  EXPECT_EQ(queue.ahead_of({8, 1}, 1), 2u + 2u + 5u) << "no more than wait";
}

TEST(fair_order, a_sequence_is_in_it_once_and_can_be_taken_back) {
  fair_order queue;
  queue.push(sequence(1, 7));
  queue.push(sequence(1, 7));
  queue.push(sequence(2, 7));
  EXPECT_EQ(queue.size(), 2u);
  EXPECT_TRUE(queue.erase({1, 0}));
  EXPECT_FALSE(queue.erase({1, 0}));
  EXPECT_FALSE(queue.contains({1, 0}));
  EXPECT_EQ(pop(queue), 2u);
  EXPECT_FALSE(queue.erase({2, 0})) << "it runs";
  EXPECT_FALSE(queue.oldest());
}

TEST(fair_order, shows_how_far_waiting_tenants_have_drifted_apart) {
  fair_order queue;
  for (uint64_t i = 0; i < 40; ++i)
    queue.push(sequence(i, i % 3));
  for (int i = 0; i < 6; ++i) {
    const auto id = queue.pop()->id;
    queue.charge(id, 50, 0);
    queue.finish(id);
  }
  const auto pairs = queue.drifts();
  ASSERT_EQ(pairs.size(), 3u);
  for (const auto& x : pairs) {
    EXPECT_GT(x.drift, 0);
    EXPECT_LE(x.drift, x.bound);
    EXPECT_LT(x.first, x.second);
  }
}

TEST(fair_monitor, watches_a_bounded_number_of_tenants) {
  fair_monitor monitor{3};
  for (uint64_t i = 0; i < 100; ++i)
    monitor.waits(i, 1, std::to_string(i));
  EXPECT_EQ(monitor.pairs(1).size(), 3u);
  monitor.served(0, 10);
  monitor.served(2, 4);
  monitor.served(99, 1000);
  const auto pairs = monitor.pairs(50);
  EXPECT_EQ(pairs[0].drift, 10);
  EXPECT_EQ(pairs[0].bound, 100);
  EXPECT_EQ(pairs[1].drift, 10) << "it was at 10 before it was at 6";
  monitor.left(0);
  EXPECT_EQ(monitor.pairs(1).size(), 1u);
}

} // namespace
} // namespace troupe::policies
