#include "policies/fair_exchange.hpp"

#include <gtest/gtest.h>

#include <deque>
#include <memory>

#include "tests/policies/fair_trace.hpp"

namespace troupe::policies {
namespace {

using namespace testing_fair;
constexpr auto standard = fair_priority::standard;

fair_request request(uint64_t id, uint64_t tenant, uint32_t input, double weight = 1) {
  fair_request x{.id = id, .input_tokens = input};
  x.shares[0] = {tenant, weight};
  return x;
}

double level(const virtual_token_counter& queue, uint64_t tenant) {
  return queue.level(standard, tenant).value_or(-1);
}

struct pair_test : testing::Test {
  virtual_token_counter one, two;
  fair_exchange a{one, 1}, b{two, 2};
  void SetUp() override {
    a.add_peer(2);
    b.add_peer(1);
    for (auto* queue : {&one, &two})
      for (uint64_t tenant : {7, 8})
        for (uint64_t i = 0; i < 9; ++i)
          queue->arrive(request(tenant * 10 + i, tenant, 100), {});
  }
};
using fair_exchange_test = pair_test;

TEST_F(fair_exchange_test, service_elsewhere_counts_here_once) {
  one.take(); // tenant 7 at 100
  const auto digest = a.digest_for(2);
  b.apply(digest);
  b.apply(digest); // sent again: the acknowledgement was lost
  EXPECT_EQ(level(two, 7), 100);
  EXPECT_EQ(level(two, 8), 0);
  a.acknowledged(2, digest.number);
  EXPECT_TRUE(a.digest_for(2).entries.empty());
}

TEST_F(fair_exchange_test, concurrent_service_adds_up) {
  one.take();
  two.take();
  const auto from_a = a.digest_for(2), from_b = b.digest_for(1);
  a.apply(from_b);
  b.apply(from_a);
  EXPECT_EQ(level(one, 7), 200);
  EXPECT_EQ(level(two, 7), 200);
}

TEST_F(fair_exchange_test, what_was_lost_on_the_way_is_told_later) {
  one.take();
  a.digest_for(2); // lost
  one.take();
  one.take();
  EXPECT_EQ(level(one, 7), 200);
  const auto again = a.digest_for(2);
  b.apply(again);
  a.acknowledged(2, again.number);
  b.apply(a.digest_for(2));
  EXPECT_EQ(level(two, 7), level(one, 7));
  EXPECT_EQ(level(two, 8), level(one, 8));
}

TEST_F(fair_exchange_test, one_that_starts_anew_learns_all_debts) {
  for (int i = 0; i < 6; ++i)
    one.take();
  virtual_token_counter fresh;
  fair_exchange c{fresh, 3};
  a.add_peer(3);
  c.add_peer(1);
  c.apply(a.digest_for(3));
  for (uint64_t tenant : {7, 8}) {
    fresh.arrive(request(tenant, tenant, 1), {});
    EXPECT_EQ(level(fresh, tenant), 300);
  }
}

/// Eight schedulers with an engine each; three tenants always wait at all of them. Digests travel
/// some steps, one scheduler is killed, and for a while two halves do not hear each other.
struct cluster {
  static constexpr size_t schedulers = 8, tenants = 3;
  static constexpr uint64_t pool = 200;
  static constexpr int period = 5, delay = 3, age = period + delay + 1;
  static constexpr fair_limits limits{pool, 40, 60};

  struct node {
    virtual_token_counter queue;
    std::unique_ptr<fair_exchange> talk;
    std::unique_ptr<toy_engine> engine;
    std::array<int, tenants> waiting{};
    std::deque<std::array<double, tenants>> recent; ///< service of the last `age` steps
    bool alive = true;
  };
  struct letter {
    int at = 0;
    size_t from = 0, to = 0;
    fair_digest digest;
  };

  cluster(uint32_t seed, bool exchange)
      : random{seed}, weights{1, 1 + seed % 3 * 1.0, 4}, judge{weights}, nodes(schedulers) {
    for (size_t i = 0; i < schedulers; ++i) {
      nodes[i].engine = std::make_unique<toy_engine>(nodes[i].queue, fair_cost{}, pool);
      nodes[i].talk = std::make_unique<fair_exchange>(nodes[i].queue, i + 1);
      for (size_t j = 0; j < schedulers && exchange; ++j)
        if (i != j)
          nodes[i].talk->add_peer(j + 1);
    }
  }
  void send(size_t i, size_t f) {
    if (lopsided && (f == 2 || (f == 1 && i >= 4)))
      return;
    for (auto& x = nodes[i]; x.waiting[f] < 3; ++x.waiting[f]) {
      // Tenant 2 asks half of the schedulers for little.
      const uint32_t output = f == 2 && i % 2 ? 2 : 1 + random() % 60;
      auto what = request(++id, f, 1 + random() % 40, weights[f]);
      what.output_max = output;
      x.engine->submit(what, {f, output});
    }
  }
  void serve(size_t i) {
    auto& x = nodes[i];
    for (size_t f = 0; f < tenants; ++f)
      send(i, f);
    x.recent.emplace_back();
    x.engine->step(
        [&](size_t f, double cost) {
          judge.served(f, cost);
          x.recent.back()[f] += cost;
        },
        [&](size_t f) {
          --x.waiting[f];
          send(i, f);
        });
    if (x.recent.size() > age)
      x.recent.pop_front();
    for (size_t f = 0; f < tenants; ++f) {
      double sum = 0;
      for (const auto& y : x.recent)
        sum += y[f];
      unknown = std::max(unknown, sum);
    }
  }
  void deliver(int step) {
    for (; !post.empty() && post.front().at <= step; post.pop_front()) {
      const auto& x = post.front();
      const bool cut = !lopsided && step >= 200 && step < 300 && (x.from < 4) != (x.to < 4);
      if (cut || !nodes[x.to].alive || !nodes[x.from].alive)
        continue;
      nodes[x.to].talk->apply(x.digest);
      nodes[x.from].talk->acknowledged(x.to + 1, x.digest.number);
    }
  }
  /// The worst drift in parts of (1/w_f + 1/w_g).
  double run() {
    double worst = 0;
    for (int step = 0; step < 600; ++step) {
      if (step == 400 && !lopsided) {
        nodes[7].alive = false;
        for (size_t i = 0; i < 7; ++i)
          nodes[i].talk->remove_peer(8);
      }
      for (size_t i = 0; i < schedulers; ++i) {
        if (!nodes[i].alive)
          continue;
        serve(i);
        for (size_t j = 0; j < schedulers && (step + static_cast<int>(i)) % period == 0; ++j)
          if (i != j && nodes[j].alive)
            post.push_back({step + delay, i, j, nodes[i].talk->digest_for(j + 1)});
      }
      deliver(step);
      worst = std::max(worst, judge.look([](size_t) { return true; },
                                         [](double f, double g) { return 1 / f + 1 / g; }));
    }
    return worst;
  }
  /// For two weights of 1, in the same parts. One partition and one kill.
  double bound() const {
    return exchange_drift_bound(charge_after_admission_max({}, limits), schedulers, unknown, 1, 1,
                                2) /
           2;
  }

  std::mt19937 random;
  std::vector<double> weights;
  bool lopsided = false; ///< tenant 1 asks only the first four, tenant 2 nobody; all goes well
  drift_judge judge;
  std::deque<node> nodes;
  std::deque<letter> post;
  uint64_t id = 0;
  double unknown = 0; ///< the most that one scheduler served one tenant within `age`
};

TEST(fair_exchange_cluster, eight_schedulers_keep_the_bound_through_a_partition_and_a_kill) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    cluster all{seed, true};
    EXPECT_LE(all.run(), all.bound()) << "seed " << seed;
  }
}

TEST(fair_exchange_cluster, a_tenant_that_asks_few_schedulers_gets_as_much_as_one_that_asks_all) {
  const auto ratio = [](bool exchange) {
    cluster all{0, exchange};
    all.lopsided = true;
    all.run();
    return all.judge.service(0) / all.judge.service(1);
  };
  EXPECT_NEAR(ratio(true), 1, 0.1);
  EXPECT_NEAR(ratio(false), 3, 0.3) << "without exchange it has half of half of them";
}

} // namespace
} // namespace troupe::policies
