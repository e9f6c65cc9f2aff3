// What a tenant's limits cost a request: everything between its headers and the node, and what is
// done for every token. The tenant has all limits there are; a minute's requests are in its
// windows.
//
//   tenants/authenticate/keys:N   from the key to the tenant, among that many keys
//   tenants/check                 begin, reserve, headers, settle: once per request
//   tenants/refuse                a request over its limit
//   tenants/token                 once per token
//   tenants/caps/models:N         queue, models, memory, cold starts of a tenant that holds N
//   tenants/floor                 what two locks and two clocks cost
#include <mutex>

#include <benchmark/benchmark.h>

#include "actors/tenant_registry.hpp"
#include "policies/tenant_holds.hpp"

namespace {

using namespace troupe;
using namespace std::chrono_literals;

instant steady() { return std::chrono::steady_clock::now(); }
actors::wall_time wall() { return std::chrono::system_clock::now(); }

actors::tenant_terms terms_of(const std::string& name, uint64_t rpm) {
  actors::tenant_terms out{.name = name};
  out.keys = {{sha256("key-" + name), "bench", {}}};
  out.limits = {.rpm = rpm, .tpm = 1'000'000'000'000, .concurrency = 100};
  out.budget = {.limit = 1e15, .soft = 0.8, .period = {}, .prices = {1, 0.1, 4}};
  return out;
}

/// A tenant with `used` requests in the last minute.
std::shared_ptr<actors::tenant> busy_tenant(uint64_t rpm, uint64_t used) {
  auto out = std::make_shared<actors::tenant>(terms_of("acme", rpm));
  const auto from = steady() - 30s;
  for (uint64_t i = 0; i < used; ++i) {
    auto begun = actors::quota_ticket::begin(out, from + i * 1us, wall());
    auto& ticket = std::get<std::unique_ptr<actors::quota_ticket>>(begun);
    ticket->reserve(100, 500, from + i * 1us, wall());
  }
  return out;
}

void authenticate(benchmark::State& state) {
  std::vector<actors::tenant_terms> all;
  for (int64_t i = 0; i < state.range(0); ++i)
    all.push_back(terms_of("tenant" + std::to_string(i), 0));
  const actors::tenant_registry tenants{std::move(all), "anonymous", {}};
  for (auto _ : state)
    benchmark::DoNotOptimize(tenants.authenticate("key-tenant0", wall()));
}

void check(benchmark::State& state) {
  const auto who = busy_tenant(1'000'000'000, 60'000);
  for (auto _ : state) {
    auto begun = actors::quota_ticket::begin(who, steady(), wall());
    auto& ticket = std::get<std::unique_ptr<actors::quota_ticket>>(begun);
    benchmark::DoNotOptimize(ticket->reserve(100, 500, steady(), wall()));
    benchmark::DoNotOptimize(who->usage(steady(), wall()));
    ticket->used({100, 1, 0}, "model", wall());
    ticket->used({100, 1, 0}, "model", wall(), true);
  }
}

void refuse(benchmark::State& state) {
  const auto who = busy_tenant(60'000, 60'000);
  for (auto _ : state) {
    const auto begun = actors::quota_ticket::begin(who, steady(), wall());
    if (!std::holds_alternative<policies::quota_refusal>(begun))
      state.SkipWithError("it was let in");
  }
}

void token(benchmark::State& state) {
  const auto who = busy_tenant(1'000'000'000, 60'000);
  auto begun = actors::quota_ticket::begin(who, steady(), wall());
  auto& ticket = std::get<std::unique_ptr<actors::quota_ticket>>(begun);
  uint32_t made = 0;
  for (auto _ : state)
    benchmark::DoNotOptimize(ticket->used({100, ++made, 0}, "model", wall()));
}

void caps(benchmark::State& state) {
  policies::tenant_holds holds;
  const policies::tenant_caps limits{.queue = 200,
                                     .warm_models = static_cast<uint64_t>(state.range(0)) + 1,
                                     .memory_bytes = uint64_t{1} << 50,
                                     .cold_starts_per_hour = 1'000'000'000};
  const auto facts = [](const model_id&) {
    return policies::tenant_holds::model_facts{.bytes = 1u << 30};
  };
  uint64_t number = 0;
  for (int64_t i = 0; i < state.range(0); ++i)
    holds.begin({++number, 0}, 1, {"model" + std::to_string(i)}, steady());
  for (auto _ : state) {
    const auto now = steady();
    benchmark::DoNotOptimize(holds.admit({.tenant = 1,
                                          .name = "acme",
                                          .caps = limits,
                                          .model = {"another"},
                                          .at_once = true,
                                          .cold = false},
                                         facts, now));
    holds.begin({++number, 0}, 1, {"another"}, now);
    holds.started({number, 0});
    holds.end({number, 0}, now, now);
  }
}

void floor_of(benchmark::State& state) {
  std::mutex one, two;
  for (auto _ : state) {
    const std::lock_guard first{one}, second{two};
    benchmark::DoNotOptimize(steady());
    benchmark::DoNotOptimize(wall());
  }
}

BENCHMARK(authenticate)
    ->Name("tenants/authenticate")
    ->ArgName("keys")
    ->Arg(1)
    ->Arg(100)
    ->Arg(1000)
    ->Arg(10'000);
BENCHMARK(check)->Name("tenants/check");
BENCHMARK(refuse)->Name("tenants/refuse");
BENCHMARK(token)->Name("tenants/token");
BENCHMARK(caps)->Name("tenants/caps")->ArgName("models")->Arg(0)->Arg(3)->Arg(30);
BENCHMARK(floor_of)->Name("tenants/floor");

} // namespace

BENCHMARK_MAIN();
