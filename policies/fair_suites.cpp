#include "policies/fair_suites.hpp"

#include <algorithm>
#include <cmath>
#include <random>

#include "policies/id_table.hpp"

namespace troupe::policies {
namespace {

suite_client steady(std::string_view name, double rate, double seconds, uint32_t input = 256,
                    uint32_t output = 256, double weight = 1) {
  return {name, {{0, seconds, rate}}, input, input, output, output, weight};
}

suite_client on_off(std::string_view name, double rate, double seconds) {
  return {.name = name, .phases = {{0, seconds, rate, 0, true}}};
}

std::vector<suite_client> many(std::initializer_list<double> rates, double seconds,
                               std::initializer_list<double> weights = {}) {
  static constexpr std::string_view names[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
  std::vector<suite_client> out;
  for (const double rate : rates) {
    const auto weight = out.size() < weights.size() ? weights.begin()[out.size()] : 1;
    out.push_back(steady(names[out.size()], rate, seconds, 256, 256, weight));
  }
  return out;
}

fair_suite ablation(std::string_view name, uint64_t pool, uint32_t length, double rate) {
  return {name,
          "two clients over capacity on a larger pool",
          {steady("a", rate, 600, length, length), steady("b", 2 * rate, 600, length, length)},
          600,
          false,
          engine_model::a100(pool)};
}

/// Requests of one client of the published Chatbot Arena sample; lengths are drawn, not replayed.
std::vector<suite_client> arena() {
  static constexpr int counts[] = {296, 262, 199, 120, 67, 66, 56, 46, 44, 43, 40, 36, 31, 26,
                                   25,  23,  22,  22,  19, 19, 12, 11, 7,  3,  2,  2,  1};
  static constexpr std::string_view names = "m01m02m03m04m05m06m07m08m09m10m11m12m13m14"
                                            "m15m16m17m18m19m20m21m22m23m24m25m26m27";
  std::vector<suite_client> out;
  for (const int count : counts)
    out.push_back({.name = names.substr(3 * out.size(), 3),
                   .phases = {{0, 600, count / 600.0}},
                   .input_min = 2,
                   .input_max = 270,
                   .output_min = 2,
                   .output_max = 510});
  return out;
}

std::vector<fair_suite> make_suites() {
  std::vector<fair_suite> out{
      {"overload", "two clients over capacity, rates 1:2", many({1.5, 3}, 360), 360},
      {"overload-multi", "eight clients over capacity",
       many({0.4, 0.4, 0.4, 0.6, 0.6, 0.6, 0.6, 0.6}, 360), 360},
      {"overload-weighted", "weights 1 2 3 4", many({0.8, 0.8, 1.2, 1.6}, 360, {1, 2, 3, 4}), 360},
      {"proportional", "two clients within their share, one far over", many({0.25, 0.5, 1.5}, 600)},
      {"on_off_less", "a light client on and off", {on_off("a", 0.5, 600), steady("b", 2, 600)}},
      {"on_off_overload", "a heavy client on and off", {on_off("a", 2, 600), steady("b", 3, 600)}},
      {"poisson_short_long",
       "many short requests against few long ones",
       {steady("short", 8, 600, 64, 64), steady("long", 1.5, 600)},
       600,
       true},
      {"poisson_short_long_2",
       "long inputs against long outputs",
       {steady("input", 8, 600, 512, 32), steady("output", 1.5, 600, 32, 512)},
       600,
       true},
      {"increase",
       "one client's rate grows",
       {steady("steady", 0.5, 600), {.name = "growing", .phases = {{0, 600, 0.2, 2}}}}},
      {"dist_shift",
       "three regimes of five minutes",
       {{.name = "a", .phases = {{0, 300, 0.5, 0, true}, {300, 600, 1}, {600, 900, 0.5}}},
        {.name = "b", .phases = {{0, 300, 2}, {300, 600, 1}, {600, 900, 1.5}}}},
       900},
      {"poisson_on_off_overload",
       "random lengths, a light client on and off",
       {{"a", {{0, 600, 0.5, 0, true}}, 16, 512, 16, 512}, {"b", {{0, 600, 2}}, 16, 512, 16, 512}},
       600,
       true},
  };
  out.push_back(ablation("pool-35k-256", 35'000, 256, 3));
  out.push_back(ablation("pool-35k-512", 35'000, 512, 1.5));
  out.push_back(ablation("pool-35k-768", 35'000, 768, 1));
  out.push_back(ablation("pool-65k-256", 65'000, 256, 4));
  out.push_back(ablation("pool-65k-512", 65'000, 512, 2));
  out.push_back(ablation("pool-65k-768", 65'000, 768, 1.5));
  out.push_back({"arena-like", "27 clients with the request counts of the Chatbot Arena sample",
                 arena(), 600, true});
  out.push_back({"idle-return",
                 "a client comes back when nobody waits",
                 {{.name = "worked", .phases = {{0, 300, 1.6}, {300, 600, 4}}},
                  {.name = "returns", .phases = {{300, 600, 4}}}},
                 600});
  static constexpr std::string_view backlogged[] = {
      "overload",     "overload-multi", "overload-weighted", "poisson_short_long",
      "pool-35k-256", "pool-35k-512",   "pool-35k-768",      "poisson_short_long_2",
      "pool-65k-256", "pool-65k-512",   "pool-65k-768"};
  for (auto& x : out)
    x.backlogged = std::ranges::find(backlogged, x.name) != std::end(backlogged);
  return out;
}

/// Arrivals of one phase. For a linear rate the n-th arrival is where the integral of the rate is
/// n (evenly spaced) or the sum of n exponential gaps (Poisson).
void arrivals(const load_phase& phase, bool poisson, std::mt19937_64& random,
              std::vector<double>& out) {
  const auto uniform = [&] { return (static_cast<double>(random() >> 11) + 0.5) * 0x1p-53; };
  const auto length = phase.to - phase.from;
  const auto end = phase.rate_at_end > 0 ? phase.rate_at_end : phase.rate;
  const auto slope = (end - phase.rate) / length;
  for (double area = poisson ? 0 : uniform();; area += poisson ? 0 : 1) {
    if (poisson)
      area -= std::log(uniform());
    // Solves rate * x + slope * x^2 / 2 = area.
    const auto root = phase.rate * phase.rate + 2 * slope * area;
    if (root < 0)
      return;
    const auto x = slope == 0 ? area / phase.rate : (std::sqrt(root) - phase.rate) / slope;
    if (x >= length)
      return;
    if (!phase.on_off || std::fmod(phase.from + x, 120) < 60)
      out.push_back(phase.from + x);
  }
}

} // namespace

const std::vector<fair_suite>& fair_suites() {
  static const auto all = make_suites();
  return all;
}

const fair_suite* find_suite(std::string_view name) {
  for (const auto& x : fair_suites())
    if (x.name == name)
      return &x;
  return nullptr;
}

simulation make_simulation(const fair_suite& suite, uint64_t seed) {
  simulation out{.engine = suite.engine, .seconds = suite.seconds, .seed = seed};
  for (uint32_t client = 0; client < suite.clients.size(); ++client) {
    const auto& x = suite.clients[client];
    out.clients.push_back({std::string{x.name}, x.weight});
    std::mt19937_64 random{mix_bits(seed) ^ client};
    const auto between = [&](uint32_t low, uint32_t high) {
      return low + static_cast<uint32_t>(random() % (high - low + 1));
    };
    std::vector<double> times;
    for (const auto& phase : x.phases)
      arrivals(phase, suite.poisson, random, times);
    for (const auto at : times) {
      const auto input = between(x.input_min, x.input_max);
      out.requests.push_back({at, client, input, between(x.output_min, x.output_max)});
    }
  }
  std::stable_sort(out.requests.begin(), out.requests.end(),
                   [](const auto& a, const auto& b) { return a.arrival < b.arrival; });
  return out;
}

} // namespace troupe::policies
