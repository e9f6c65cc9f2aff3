#include "policies/fair_vtc.hpp"

#include <gtest/gtest.h>

#include <random>

namespace troupe::policies {
namespace {

TEST(virtual_token_counter, a_return_to_a_queue_in_use_lifts_to_its_least_counter) {
  virtual_token_counter vtc;
  vtc.push({1, 0, 100, 0});
  vtc.push({2, 0, 100, 0});
  vtc.pop();
  vtc.push({3, 1, 10, 0});
  EXPECT_EQ(vtc.counter(1), 100);
}

TEST(virtual_token_counter, a_return_to_an_empty_queue_lifts_to_the_last_that_left) {
  virtual_token_counter vtc;
  vtc.push({1, 0, 100, 0});
  vtc.pop();
  vtc.charge_output(0, 50);
  vtc.push({2, 1, 10, 0});
  EXPECT_EQ(vtc.counter(1), 200);
}

TEST(virtual_token_counter, cached_prefixes_have_their_own_price) {
  virtual_token_counter vtc{{1, 0.25, 2}};
  vtc.push({1, 0, 100, 40});
  vtc.pop();
  EXPECT_EQ(vtc.counter(0), 70);
}

/// Tenants that always wait, requests of random or all-or-nothing sizes, worst-case admission.
void check_drift(uint32_t seed) {
  std::mt19937 random{seed};
  const uint32_t tenants = 2 + random() % 4, pool = 40 + random() % 200, half = pool / 2;
  struct running {
    uint32_t tenant, size, left;
  };
  virtual_token_counter vtc;
  std::vector<double> weight(tenants), served(tenants);
  const auto push = [&](uint32_t tenant) {
    const auto input = random() % 2 ? 1 + random() % half : (tenant % 2 ? half : 1);
    vtc.push({0, tenant, static_cast<uint32_t>(input), 0});
  };
  for (uint32_t i = 0; i < tenants; ++i) {
    vtc.set_weight(i, weight[i] = 1 + random() % 4);
    push(i);
    push(i);
  }
  std::vector<running> batch;
  uint32_t used = 0;
  const double bound = 2 * 2.0 * pool; // every weight is at least 1
  std::vector<double> least(tenants * tenants), most(tenants * tenants);
  for (int step = 0; step < 200; ++step) {
    while (true) {
      const auto next = *vtc.front();
      const auto output = next.tenant % 2 ? 1 + random() % 4 : half;
      const auto size = static_cast<uint32_t>(next.input_tokens + output);
      if (used + size > pool)
        break;
      vtc.pop();
      push(next.tenant);
      served[next.tenant] += next.input_tokens / weight[next.tenant];
      batch.push_back({next.tenant, size, static_cast<uint32_t>(output)});
      used += size;
    }
    for (auto& x : batch) {
      vtc.charge_output(x.tenant, 1);
      served[x.tenant] += 2 / weight[x.tenant];
      used -= --x.left == 0 ? x.size : 0;
    }
    std::erase_if(batch, [](const running& x) { return x.left == 0; });
    for (uint32_t i = 0; i < tenants; ++i)
      for (uint32_t j = 0; j < i; ++j) { // the worst interval: highest minus lowest so far
        const auto gap = served[i] - served[j];
        auto& low = least[i * tenants + j];
        auto& high = most[i * tenants + j];
        low = std::min(low, gap);
        high = std::max(high, gap);
        ASSERT_LE(high - low, bound + 1e-6) << "seed " << seed;
      }
  }
}

TEST(virtual_token_counter, drift_stays_within_the_bound_on_ten_thousand_traces) {
  for (uint32_t seed = 0; seed < 10'000 && !testing::Test::HasFatalFailure(); ++seed)
    check_drift(seed);
}

} // namespace
} // namespace troupe::policies
