#include <gtest/gtest.h>

#include <numeric>

#include "tests/actors/cluster_fixture.hpp"

namespace troupe::actors::testing {
namespace {

using namespace std::chrono_literals;

/// Tenants that always have requests waiting, with fake engines under virtual time.
struct crowd {
  explicit crowd(cluster& on, std::vector<double> weights)
      : on{on}, weights{std::move(weights)}, open(this->weights.size()),
        made(this->weights.size()) {}
  void fill(size_t waiting, const std::string& model = "a") {
    for (size_t i = 0; i < weights.size(); ++i) {
      std::erase_if(open[i], [&](const auto& x) {
        if (x->ended())
          made[i] += x->text[0].size();
        return x->ended();
      });
      while (open[i].size() < waiting) {
        auto request = make_request(model, std::string(1 + count % 7, 'p'),
                                    static_cast<uint32_t>(10 + count % 23), count + 1);
        ++count;
        request.tenant = std::string(1, static_cast<char>('x' + i));
        request.tenant_weight = weights[i];
        request.priority = priority;
        open[i].push_back(on.submit(std::move(request)));
      }
    }
  }
  double total() const { return std::accumulate(made.begin(), made.end(), 0.0); }
  cluster& on;
  std::vector<double> weights;
  std::vector<std::vector<std::shared_ptr<recorder>>> open;
  std::vector<double> made;
  policies::fair_priority priority = policies::fair_priority::standard;
  uint64_t count = 0;
};

TEST(fairness, saturating_tenants_get_tokens_by_their_weights) {
  cluster all{{.sequences_max = 4}};
  all.add_worker();
  crowd tenants{all, {1, 2, 4}};
  while (tenants.total() < 20'000) {
    tenants.fill(12);
    all.run(200);
    all.advance_clock(10ms);
  }
  for (size_t i = 0; i < 3; ++i)
    EXPECT_NEAR(tenants.made[i] / tenants.total(), tenants.weights[i] / 7,
                0.05 * tenants.weights[i] / 7);
}

TEST(fairness, one_tenant_with_many_requests_does_not_delay_another) {
  cluster all{{.sequences_max = 2}};
  all.add_worker();
  all.load("a", std::nullopt);
  all.advance(1s);
  crowd greedy{all, {1}};
  greedy.fill(50);
  all.run(300);
  ASSERT_FALSE(greedy.open[0].back()->ended());
  auto request = make_request("a", "p", 5);
  request.tenant = "modest";
  const auto answer = all.submit(std::move(request));
  const auto before = all.tokens_computed();
  while (!answer->ended())
    all.run(1);
  EXPECT_LT(all.tokens_computed() - before, 150u)
      << "it waited for places that were taken, and for nothing else";
}

TEST(fairness, interactive_requests_overtake_batch_ones) {
  cluster all{{.sequences_max = 1}};
  all.add_worker();
  all.load("a", std::nullopt);
  all.advance(1s);
  crowd batch{all, {1}};
  batch.priority = policies::fair_priority::batch;
  batch.fill(5);
  all.run(40);
  auto request = make_request("a", "p", 5);
  request.tenant = "person";
  request.priority = policies::fair_priority::interactive;
  const auto answer = all.submit(std::move(request));
  while (!answer->ended())
    all.run(1);
  EXPECT_FALSE(batch.open[0].back()->ended());
}

} // namespace
} // namespace troupe::actors::testing
