// The simulator against the measurements it was made from, and the claims about fair queues.
#include <gtest/gtest.h>

#include <cmath>

#include "policies/fair_metrics.hpp"

namespace troupe::policies {
namespace {

fair_run run(std::string_view suite, std::string_view policy) {
  return *run_suite(*find_suite(suite), policy, 42);
}

TEST(serving_sim, serves_as_fast_as_the_published_engines) {
  struct {
    engine_model engine;
    uint32_t length;
    double per_s; ///< requests, from the result files of the paper's artifact
  } const published[] = {{engine_model::a10g(), 256, 1.744},
                         {engine_model::a100(35'000), 256, 5.43},
                         {engine_model::a100(35'000), 512, 1.57},
                         {engine_model::a100(65'000), 256, 6.06},
                         {engine_model::a100(65'000), 512, 2.08}};
  for (const auto& x : published) {
    const fair_suite suite{"",
                           "",
                           {{.name = "a",
                             .phases = {{0, 600, 10}},
                             .input_min = x.length,
                             .input_max = x.length,
                             .output_min = x.length,
                             .output_max = x.length}},
                           600,
                           false,
                           x.engine};
    const auto found = run_suite(suite, "fcfs", 1)->metrics;
    EXPECT_NEAR(found.tokens_per_s / (2.0 * x.length) / x.per_s, 1, 0.08)
        << x.engine.name << " " << x.length;
  }
}

TEST(serving_sim, serves_every_request_once_whatever_the_order) {
  for (const auto* policy :
       {"fcfs", "lcf", "vtc", "vtc-predict", "vtc-oracle", "vtc-half", "drr"}) {
    const auto found = run("poisson_short_long", policy).metrics;
    EXPECT_EQ(found.served, found.arrived) << policy;
    EXPECT_GT(found.arrived, 5000u);
  }
  const auto limited = run("overload", "rpm-20").metrics;
  EXPECT_EQ(limited.served + limited.clients[0].refused + limited.clients[1].refused,
            limited.arrived);
  EXPECT_FALSE(run_suite(*find_suite("overload"), "nonsense", 42));
}

TEST(fair_claims, vtc_keeps_every_suite_in_which_all_are_backlogged_within_its_bound) {
  size_t suites = 0;
  for (const auto& suite : fair_suites()) {
    if (!suite.backlogged)
      continue;
    ++suites;
    const auto vtc = run_suite(suite, "vtc", 42)->metrics;
    EXPECT_LE(vtc.drift, vtc.bound) << suite.name;
    EXPECT_GT(run_suite(suite, "fcfs", 42)->metrics.drift, vtc.drift) << suite.name;
  }
  EXPECT_EQ(suites, 11u);
  EXPECT_LE(run("overload", "vtc").metrics.drift, 9'050) << "what the paper's own server had";
  EXPECT_LT(run("overload", "vtc-half").metrics.drift, run("overload", "vtc").metrics.drift)
      << "roughly right predictions help";
}

TEST(fair_claims, a_client_that_returns_to_an_empty_queue_gets_half_of_the_next_two_minutes) {
  EXPECT_NEAR(run("idle-return", "vtc").metrics.newcomer_share, 0.5, 0.01);
  EXPECT_GT(run("idle-return", "lcf").metrics.newcomer_share, 0.9) << "its old credit";
}

TEST(fair_claims, weights_are_shares) {
  const auto& clients = run("overload-weighted", "vtc").metrics.clients;
  for (size_t i = 1; i < clients.size(); ++i)
    EXPECT_NEAR(clients[i].service_rate / clients[0].service_rate, double(i + 1),
                0.12 * double(i + 1));
}

TEST(fair_claims, clients_within_their_share_do_not_wait_for_one_that_is_not) {
  const auto vtc = run("proportional", "vtc").metrics, fcfs = run("proportional", "fcfs").metrics;
  EXPECT_LE(vtc.clients[0].first_token_mean_s, 5);
  EXPECT_LE(vtc.clients[1].first_token_mean_s, 5);
  EXPECT_GT(fcfs.clients[0].first_token_mean_s, 50);
  EXPECT_NEAR(vtc.tokens_per_s / fcfs.tokens_per_s, 1, 0.02) << "fairness costs no throughput";
}

TEST(fair_suites, have_the_rates_that_they_say) {
  for (const auto& suite : fair_suites()) {
    const auto what = make_simulation(suite, 42);
    std::vector<double> count(suite.clients.size()), expected(suite.clients.size());
    for (const auto& x : what.requests)
      ++count[x.client];
    for (size_t i = 0; i < suite.clients.size(); ++i)
      for (const auto& x : suite.clients[i].phases)
        expected[i] += (x.rate + (x.rate_at_end > 0 ? x.rate_at_end : x.rate)) / 2 *
                       (x.to - x.from) * (x.on_off ? (x.to - x.from > 300 ? 0.5 : 0.6) : 1);
    for (size_t i = 0; i < count.size(); ++i)
      EXPECT_NEAR(count[i], expected[i], suite.poisson ? 4 * std::sqrt(expected[i]) + 1 : 1.5)
          << suite.name << " " << i;
  }
}

} // namespace
} // namespace troupe::policies
