// Decisions of the fair queue per second: one is choosing and taking a request, charging its input
// and a step of output, its end, and the arrival of the tenant's next one.
#include <algorithm>
#include <chrono>
#include <random>
#include <vector>

#include <benchmark/benchmark.h>

#include "policies/fair_baselines.hpp"
#include "policies/fair_vtc.hpp"

namespace {

using namespace troupe::policies;

fair_request make(std::mt19937_64& random, uint64_t id, uint64_t tenant, uint32_t levels) {
  fair_request x{.id = id, .input_tokens = static_cast<uint32_t>(1 + random() % 512)};
  x.shares[0] = {mix_bits(levels == 1 ? tenant : tenant / 100),
                 static_cast<double>(1 + tenant % 4)};
  x.shares[1] = {mix_bits(tenant), 1};
  return x;
}

struct fixture {
  fixture(uint64_t tenants, uint32_t levels) : queue{{.levels = levels}}, levels{levels} {
    for (int i = 0; i < 2; ++i)
      for (uint64_t tenant = 0; tenant < tenants; ++tenant)
        arrive(tenant);
  }
  void arrive(uint64_t tenant) {
    const auto id = last++;
    of[id % of.size()] = static_cast<uint32_t>(tenant);
    queue.arrive(make(random, id, tenant, levels), {});
  }
  void decide() {
    const auto x = *queue.take();
    queue.charge(x.id, 1);
    queue.finish(x.id);
    arrive(of[x.id % of.size()]);
  }
  std::mt19937_64 random{1};
  virtual_token_counter queue;
  uint32_t levels;
  /// Request -> tenant, of the last so many requests; made beforehand, so that its pages are not
  /// paid for by decisions.
  std::vector<uint32_t> of = std::vector<uint32_t>(1u << 22);
  uint64_t last = 0;
};

void decide(benchmark::State& state) {
  fixture x{static_cast<uint64_t>(state.range(0)), static_cast<uint32_t>(state.range(1))};
  for (auto _ : state)
    x.decide();
  state.counters["decisions/s"] =
      benchmark::Counter(static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}

/// Every decision timed by itself; includes the clock, some 25 ns.
void tail(benchmark::State& state) {
  fixture x{static_cast<uint64_t>(state.range(0)), static_cast<uint32_t>(state.range(1))};
  std::vector<int64_t> took;
  took.reserve(20'000'000);
  for (auto _ : state) {
    const auto from = std::chrono::steady_clock::now();
    x.decide();
    took.push_back((std::chrono::steady_clock::now() - from).count());
  }
  std::sort(took.begin(), took.end());
  state.counters["p50_ns"] = static_cast<double>(took[took.size() / 2]);
  state.counters["p99_ns"] = static_cast<double>(took[took.size() * 99 / 100]);
  state.counters["max_ns"] = static_cast<double>(took.back());
}

/// Charging one output token of each of 256 running requests whose tenants all wait.
void charge_step(benchmark::State& state) {
  fixture x{static_cast<uint64_t>(state.range(0)), 1};
  std::vector<uint64_t> running;
  for (int i = 0; i < 256; ++i)
    running.push_back(x.queue.take()->id);
  for (auto _ : state)
    for (const auto id : running)
      x.queue.charge(id, 1);
  state.SetItemsProcessed(static_cast<int64_t>(running.size() * state.iterations()));
}

BENCHMARK(decide)
    ->Name("policies/fair_vtc/decide")
    ->ArgNames({"tenants", "levels"})
    ->Args({100, 1})
    ->Args({100'000, 1})
    ->Args({100'000, 2})
    ->Args({1'000'000, 1});
BENCHMARK(tail)
    ->Name("policies/fair_vtc/decide_tail")
    ->ArgNames({"tenants", "levels"})
    ->Args({100'000, 1})
    ->Args({100'000, 2});
BENCHMARK(charge_step)->Name("policies/fair_vtc/charge_step")->ArgName("tenants")->Arg(100'000);

} // namespace

BENCHMARK_MAIN();
