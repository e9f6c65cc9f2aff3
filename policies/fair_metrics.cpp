#include "policies/fair_metrics.hpp"

#include <algorithm>
#include <cmath>

#include "policies/fair_baselines.hpp"

namespace troupe::policies {
namespace {

double cost_of(const simulated_request& x) { return x.input + 2.0 * x.output; }

/// Per client: service per second within [from, to], a request's service being spread evenly from
/// its first token to its end, and what was asked for within it.
struct window {
  window(const simulation& what, const simulation_result& result, double from, double to)
      : served(what.clients.size()), asked(what.clients.size()) {
    const auto length = to - from;
    for (size_t i = 0; i < what.requests.size(); ++i) {
      const auto& x = what.requests[i];
      const auto& y = result.outcomes[i];
      if (x.arrival >= from && x.arrival < to)
        asked[x.client] += cost_of(x) / length;
      if (std::isnan(y.finished))
        continue;
      const auto begin = y.first_token, span = std::max(y.finished - begin, 1e-9);
      const auto inside = std::min(begin + span, to) - std::max(begin, from);
      if (inside > 0)
        served[x.client] += cost_of(x) * inside / span / length;
    }
  }
  double difference() const {
    const auto best = *std::max_element(served.begin(), served.end());
    double sum = 0;
    for (size_t i = 0; i < served.size(); ++i)
      sum += std::min(best - served[i], std::abs(asked[i] - served[i]));
    return sum;
  }
  std::vector<double> served, asked;
};

void measure_differences(const simulation& what, const simulation_result& result,
                         fair_metrics& out) {
  constexpr int points = 19;
  std::vector<double> all;
  for (int i = 0; i < points; ++i) {
    const auto at = 30 + 28.5 * i * what.seconds / 600;
    all.push_back(window{what, result, at - 30, at + 30}.difference());
  }
  for (const auto x : all) {
    out.difference_max = std::max(out.difference_max, x);
    out.difference_mean += x / points;
  }
  for (const auto x : all)
    out.difference_variance += std::pow(x - out.difference_mean, 2) / points;
}

void measure_clients(const simulation& what, const simulation_result& result, fair_metrics& out) {
  out.clients.resize(what.clients.size());
  std::vector<std::vector<double>> waits(what.clients.size());
  uint64_t tokens = 0;
  for (size_t i = 0; i < what.requests.size(); ++i) {
    const auto& x = what.requests[i];
    const auto& y = result.outcomes[i];
    auto& client = out.clients[x.client];
    ++client.arrived;
    client.refused += y.refused;
    if (std::isnan(y.finished))
      continue;
    ++out.served;
    tokens += x.input + x.output;
    waits[x.client].push_back(y.first_token - x.arrival);
  }
  out.arrived = what.requests.size();
  out.tokens_per_s = result.end > 0 ? static_cast<double>(tokens) / result.end : 0;
  const window all{what, result, 0, what.seconds};
  for (size_t i = 0; i < waits.size(); ++i) {
    auto& client = out.clients[i];
    client.service_rate = all.served[i];
    auto& list = waits[i];
    std::sort(list.begin(), list.end());
    for (const auto x : list)
      client.first_token_mean_s += x / static_cast<double>(list.size());
    if (!list.empty())
      client.first_token_p99_s = list[std::min(list.size() - 1, list.size() * 99 / 100)];
  }
}

void measure_drift(const simulation& what, const simulation_result& result, fair_metrics& out) {
  if (what.clients.empty() || result.service.size() <= 30)
    return;
  for (size_t t = 30; t < result.service.size(); ++t) {
    double least = INFINITY, most = -INFINITY;
    for (size_t i = 0; i < what.clients.size(); ++i) {
      const auto got = (result.service[t][i] - result.service[30][i]) / what.clients[i].weight;
      least = std::min(least, got);
      most = std::max(most, got);
    }
    out.drift = std::max(out.drift, most - least);
  }
  fair_limits limits{.pool_tokens = what.engine.pool_tokens};
  for (const auto& x : what.requests) {
    limits.input_max = std::max<uint64_t>(limits.input_max, x.input);
    limits.output_max = std::max<uint64_t>(limits.output_max, x.output);
  }
  std::vector<double> weights;
  for (const auto& x : what.clients)
    weights.push_back(x.weight);
  std::sort(weights.begin(), weights.end());
  out.bound = drift_bound(fair_cost::linear(), limits, weights[0], weights[weights.size() > 1]);
}

void measure_newcomer(const simulation& what, const simulation_result& result, fair_metrics& out) {
  const auto last = what.clients.size() - 1;
  const auto first = std::find_if(what.requests.begin(), what.requests.end(),
                                  [&](const simulated_request& x) { return x.client == last; });
  if (first == what.requests.end() || result.service.empty())
    return;
  const auto from = std::min(static_cast<size_t>(first->arrival), result.service.size() - 1);
  const auto to = std::min(from + 120, result.service.size() - 1);
  double all = 0;
  for (size_t i = 0; i <= last; ++i)
    all += result.service[to][i] - result.service[from][i];
  out.newcomer_share = all > 0 ? (result.service[to][last] - result.service[from][last]) / all : 0;
}

} // namespace

fair_metrics measure(const simulation& what, const simulation_result& result) {
  fair_metrics out;
  measure_differences(what, result, out);
  measure_clients(what, result, out);
  measure_drift(what, result, out);
  if (!what.clients.empty())
    measure_newcomer(what, result, out);
  return out;
}

std::optional<fair_run> run_suite(const fair_suite& suite, std::string_view policy, uint64_t seed) {
  auto what = make_simulation(suite, seed);
  if (policy == "vtc-oracle")
    what.oracle = length_oracle::exact;
  if (policy == "vtc-half")
    what.oracle = length_oracle::within_half;
  const bool told = what.oracle != length_oracle::silent;
  const auto queue =
      make_fair_queue(told ? "vtc" : policy, fair_cost::linear(), what.engine.pool_tokens);
  if (!queue)
    return std::nullopt;
  auto result = simulate(what, *queue);
  return fair_run{measure(what, result), std::move(result.service)};
}

} // namespace troupe::policies
