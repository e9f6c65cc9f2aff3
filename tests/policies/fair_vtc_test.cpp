#include "policies/fair_vtc.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace troupe::policies {
namespace {

constexpr auto standard = fair_priority::standard;

fair_request request(uint64_t id, uint64_t tenant, uint32_t input, uint32_t cached = 0) {
  fair_request out{.id = id};
  out.shares[0].id = tenant;
  out.input_tokens = input;
  out.cached_tokens = cached;
  return out;
}

double counter(const virtual_token_counter& queue, uint64_t tenant) {
  const uint64_t path[] = {tenant};
  return queue.counter(standard, path).value_or(NAN);
}

TEST(virtual_token_counter, the_tenant_with_the_least_counter_goes_next_in_order_of_arrival) {
  virtual_token_counter queue;
  queue.arrive(request(1, 7, 100), {});
  queue.arrive(request(2, 7, 100), {});
  queue.arrive(request(3, 8, 10), {});
  queue.arrive(request(4, 8, 10), {});
  std::vector<uint64_t> order;
  while (const auto x = queue.take())
    order.push_back(x->id);
  EXPECT_EQ(order, (std::vector<uint64_t>{1, 3, 4, 2}));
  EXPECT_EQ(queue.next(), nullptr);
}

TEST(virtual_token_counter, a_return_to_a_queue_in_use_lifts_to_its_least_counter) {
  virtual_token_counter queue;
  queue.arrive(request(1, 0, 100), {});
  queue.arrive(request(2, 0, 100), {});
  queue.take();
  queue.arrive(request(3, 1, 10), {});
  EXPECT_EQ(counter(queue, 1), 100);
}

TEST(virtual_token_counter, a_return_to_an_empty_queue_lifts_to_the_last_that_left) {
  virtual_token_counter queue;
  queue.arrive(request(1, 0, 100), {});
  queue.take();
  queue.charge(1, 50);
  queue.arrive(request(2, 1, 10), {});
  EXPECT_EQ(counter(queue, 1), 200);
}

TEST(virtual_token_counter, lifting_never_lowers) {
  virtual_token_counter queue;
  queue.arrive(request(1, 0, 500), {});
  queue.take();
  queue.arrive(request(2, 1, 10), {});
  queue.arrive(request(3, 1, 10), {});
  queue.take(); // tenant 1 at 510: it started from 500
  queue.arrive(request(4, 0, 1), {});
  EXPECT_EQ(counter(queue, 0), 510);
  queue.charge(1, 100);
  EXPECT_EQ(counter(queue, 0), 710);
  queue.remove(4);
  queue.arrive(request(5, 0, 1), {});
  EXPECT_EQ(counter(queue, 0), 710) << "debt is kept";
}

TEST(virtual_token_counter, cached_prefixes_have_their_own_price) {
  virtual_token_counter queue{{.cost = {.input = 1, .cached = 0.25, .output = 2}}};
  queue.arrive(request(1, 0, 100, 40), {});
  queue.take();
  EXPECT_EQ(counter(queue, 0), 70);
}

TEST(virtual_token_counter, charges_the_profiled_cost_step_by_step) {
  const auto cost = fair_cost::profiled();
  virtual_token_counter queue{{.cost = cost}};
  queue.arrive(request(1, 0, 100), {});
  queue.take();
  for (int i = 0; i < 40; ++i)
    queue.charge(1, 1);
  // h(x, y) as the authors give it.
  const double x = 100, y = 40;
  EXPECT_NEAR(counter(queue, 0),
              0.21001891 * x + 0.10075395 * y + 0.0039868 * x * y + 0.00324733 * y * y + 1.14601454,
              1e-6);
}

TEST(virtual_token_counter, a_prediction_is_paid_ahead_and_what_is_not_made_comes_back) {
  virtual_token_counter queue{{.predict = true}};
  for (uint64_t id = 1; id <= 5; ++id) {
    auto x = request(id, 0, 10);
    if (id >= 3)
      x.predicted_output = 30;
    queue.arrive(x, {});
  }
  for (uint64_t id = 1; id <= 2; ++id) {
    queue.take();
    queue.charge(id, 50);
    queue.finish(id);
  }
  EXPECT_EQ(counter(queue, 0), 2 * (10 + 100)) << "first without a prediction, then with 10";
  queue.take();
  EXPECT_EQ(counter(queue, 0), 220 + 10 + 60);
  queue.charge(3, 30);
  EXPECT_EQ(counter(queue, 0), 220 + 10 + 60);
  queue.charge(3, 5);
  queue.finish(3);
  EXPECT_EQ(counter(queue, 0), 220 + 10 + 70) << "longer than predicted";
  queue.take();
  queue.charge(4, 10);
  EXPECT_EQ(counter(queue, 0), 300 + 10 + 60);
  queue.finish(4);
  EXPECT_EQ(counter(queue, 0), 300 + 10 + 20) << "shorter than predicted";
}

TEST(virtual_token_counter, higher_priorities_go_first_unless_a_lower_one_was_passed_over_often) {
  virtual_token_counter strict, patient{{.passed_over_max = 2}};
  for (auto* queue : {&strict, &patient}) {
    for (uint64_t id = 1; id <= 4; ++id) {
      auto x = request(id, id, 10);
      x.priority = id == 1 ? fair_priority::batch : fair_priority::interactive;
      EXPECT_EQ(queue->arrive(x, {}), fair_arrival::queued);
    }
    queue->take();
    queue->take();
  }
  EXPECT_EQ(strict.take()->id, 4u);
  EXPECT_EQ(patient.take()->id, 1u);
  EXPECT_EQ(patient.take()->id, 4u);
}

TEST(virtual_token_counter, users_share_what_their_organisation_gets) {
  virtual_token_counter queue{{.levels = 3}};
  std::map<std::array<uint64_t, 3>, int> taken;
  uint64_t id = 0;
  const auto fill = [&](uint64_t organisation, uint64_t user, uint64_t adapter) {
    fair_request x{.id = ++id, .input_tokens = 10};
    // Organisation 1 has weight 3, its user 2 weight 4.
    x.shares = {{{organisation, organisation == 1 ? 3.0 : 1.0},
                 {user, user == 2 && organisation == 1 ? 4.0 : 1.0},
                 {adapter, 1}}};
    EXPECT_EQ(queue.arrive(x, {}), fair_arrival::queued);
  };
  for (int i = 0; i < 2000; ++i)
    for (const auto& [organisation, user] : {std::pair{1, 1}, {1, 2}, {2, 1}})
      for (const auto adapter : {1, 2})
        fill(organisation, user, adapter);
  for (int i = 0; i < 2000; ++i) {
    const auto x = *queue.take();
    ++taken[{x.shares[0].id, x.shares[1].id, x.shares[2].id}];
    queue.finish(x.id);
  }
  EXPECT_NEAR((taken[{1, 1, 1}]), 150, 1);
  EXPECT_NEAR((taken[{1, 1, 2}]), 150, 1);
  EXPECT_NEAR((taken[{1, 2, 1}]), 600, 1);
  EXPECT_NEAR((taken[{1, 2, 2}]), 600, 1);
  EXPECT_NEAR((taken[{2, 1, 1}]), 250, 1);
}

TEST(virtual_token_counter, refuses_bad_weights_and_repeated_ids) {
  virtual_token_counter queue;
  for (const double weight : {0.0, -1.0, double(NAN), double(INFINITY)}) {
    auto x = request(1, 1, 1);
    x.shares[0].weight = weight;
    EXPECT_EQ(queue.arrive(x, {}), fair_arrival::bad_weight);
  }
  EXPECT_EQ(queue.arrive(request(1, 1, 1), {}), fair_arrival::queued);
  EXPECT_EQ(queue.arrive(request(1, 2, 1), {}), fair_arrival::duplicate);
  EXPECT_EQ(queue.waiting(), 1u);
  queue.take();
  EXPECT_EQ(queue.arrive(request(1, 2, 1), {}), fair_arrival::duplicate) << "it runs";
  EXPECT_FALSE(queue.remove(1));
  EXPECT_FALSE(queue.remove(99));
  queue.charge(99, 1);
  queue.finish(99);
  queue.finish(1);
  EXPECT_EQ(queue.arrive(request(1, 2, 1), {}), fair_arrival::queued);
}

TEST(fair_cost, refuses_numbers_that_make_no_price) {
  EXPECT_TRUE(fair_cost{}.valid());
  EXPECT_TRUE(fair_cost::profiled().valid());
  EXPECT_FALSE(fair_cost{.input = -1}.valid());
  EXPECT_FALSE(fair_cost{.cached = NAN}.valid());
  EXPECT_FALSE(fair_cost{.output = 0}.valid());
  EXPECT_FALSE(fair_cost{.square = INFINITY}.valid());
}

TEST(virtual_token_counter, remembers_few_of_a_million_tenants_that_came_once) {
  virtual_token_counter queue;
  for (uint64_t id = 1; id <= 1'000'000; ++id) {
    queue.arrive(request(id, mix_bits(id), 10), {});
    if (id % 8 != 0)
      continue;
    while (const auto x = queue.take()) {
      queue.charge(x->id, 3);
      queue.finish(x->id);
    }
  }
  EXPECT_LE(queue.tenants(), 20u);
}

TEST(virtual_token_counter, a_forgotten_tenant_gains_nothing) {
  virtual_token_counter all, few{{.idle_max = 4}};
  // A steady tenant keeps the level low while others come once with growing debts.
  for (auto* queue : {&all, &few}) {
    queue->arrive(request(1'000'000, 999, 1), {});
    for (uint64_t id = 1; id <= 10; ++id) {
      auto x = request(id, id, 10 * static_cast<uint32_t>(id));
      x.priority = standard;
      queue->arrive(x, {});
      while (queue->next()->id == 1'000'000) {
        queue->remove(1'000'000); // it never gets to run
        queue->take();
        queue->arrive(request(1'000'000, 999, 1), {});
        break;
      }
      queue->finish(id);
    }
  }
  EXPECT_LE(few.tenants(), 5u);
  for (uint64_t id = 1; id <= 10; ++id)
    for (auto* queue : {&all, &few})
      queue->arrive(request(100 + id, id, 1), {});
  for (uint64_t id = 1; id <= 10; ++id)
    EXPECT_GE(counter(few, id), counter(all, id)) << id;
}

} // namespace
} // namespace troupe::policies
