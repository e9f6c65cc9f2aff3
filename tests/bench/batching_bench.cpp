// What batching decisions are worth, over random weights of SmolLM2-135M's shape: how long texts
// stall beside a long prompt, what an int8 KV cache saves at a long context, and what a preempted
// sequence costs when it is recomputed and when it is swapped.
#include <algorithm>
#include <chrono>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "tests/bench/shape_engine.hpp"

namespace {

using namespace troupe;
using namespace troupe::engine;

std::unique_ptr<engine::engine> make_engine(gpu::device& device, engine_options options) {
  options.draft_tokens_max = 0;
  options.clock = [] { return std::chrono::steady_clock::now(); };
  return bench::make_engine(device, options);
}

/// No two begin alike.
sequence_request request(uint64_t number, size_t prompt, uint32_t tokens) {
  std::mt19937_64 random{number};
  sequence_request out;
  out.id = {number, 0};
  for (size_t i = 0; i < prompt; ++i)
    out.tokens.push_back(static_cast<token_id>(random() % 40'000));
  out.prompt_size = static_cast<uint32_t>(prompt);
  out.sampling.temperature = 0;
  out.sampling.max_tokens = tokens;
  out.sampling.ignore_eos = true;
  return out;
}

double step_ms(engine::engine& model) {
  const auto begun = std::chrono::steady_clock::now();
  (void)model.step();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begun)
      .count();
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<long>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

/// Eight texts are written when a prompt of 2,000 tokens arrives. Once: the prefix cache would know
/// the prompt the second time.
void stall(benchmark::State& state, bool budgeted) {
  const auto device = gpu::make_cpu_device();
  engine_options options;
  if (!budgeted)
    options.step_target = std::chrono::hours{1};
  const auto model = make_engine(*device, options);
  for (auto _ : state) {
    for (uint64_t id = 1; id <= 8; ++id)
      (void)model->add(request(id, 64, 4000));
    std::vector<double> alone, beside;
    for (int step = 0; step < 40; ++step)
      alone.push_back(step_ms(*model));
    alone.erase(alone.begin(), alone.begin() + 10); // the prompts
    (void)model->add(request(9, 2000, 1));
    double first_token_ms = 0;
    while (model->running() + model->waiting() > 8) {
      beside.push_back(step_ms(*model));
      first_token_ms += beside.back();
    }
    for (uint64_t id = 1; id <= 8; ++id)
      model->cancel({id, 0});
    state.counters["decode_ms"] = median(alone);
    state.counters["gap_ms"] = median(beside);
    state.counters["gap_ms_max"] = *std::max_element(beside.begin(), beside.end());
    state.counters["first_token_ms"] = first_token_ms;
  }
}
BENCHMARK_CAPTURE(stall, chunks_of_512, false)->Iterations(1)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(stall, budgeted, true)->Iterations(1)->Unit(benchmark::kMillisecond);

/// Steps of eight texts at a context of about 1,000 tokens.
void long_context(benchmark::State& state, dtype kv_type) {
  const auto device = gpu::make_cpu_device();
  engine_options options;
  options.kv_type = kv_type;
  const auto model = make_engine(*device, options);
  for (uint64_t id = 1; id <= 8; ++id)
    (void)model->add(request(id, 1000, 4000));
  while (model->counters().rows < 8 * 1000)
    (void)model->step();
  for (auto _ : state)
    (void)model->step();
}
BENCHMARK_CAPTURE(long_context, bf16, dtype::bf16)
    ->Iterations(30)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK_CAPTURE(long_context, int8, dtype::i8)
    ->Iterations(30)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

/// What attention to 2,000 tokens adds to a step of one text, on one and two threads. Sums are cut
/// at fixed positions, whoever computes the parts; the price of batch invariance is what the ratio
/// lacks to 2.
void one_long_context(benchmark::State& state) {
  double attention_ms[2] = {};
  for (auto _ : state)
    for (const unsigned threads : {1u, 2u}) {
      gpu::device_options device_options;
      device_options.threads = threads;
      const auto device = gpu::make_cpu_device(device_options);
      const auto model = make_engine(*device, {});
      double medians[2] = {};
      for (const bool is_long : {false, true}) {
        (void)model->add(request(1 + is_long, is_long ? 2000 : 16, 4000));
        while (model->step()->empty()) {
        }
        std::vector<double> steps;
        for (int step = 0; step < 30; ++step)
          steps.push_back(step_ms(*model));
        medians[is_long] = median(steps);
        model->cancel({1u + is_long, 0});
      }
      attention_ms[threads - 1] = medians[1] - medians[0];
      state.counters["step_ms_" + std::to_string(threads)] = medians[1];
    }
  state.counters["attention_ms_1"] = attention_ms[0];
  state.counters["attention_ms_2"] = attention_ms[1];
  state.counters["ratio"] = attention_ms[0] / attention_ms[1];
}
BENCHMARK(one_long_context)->Iterations(1)->Unit(benchmark::kMillisecond);

/// Six texts of 256 + 64 tokens in an arena that holds four of them.
void preempt(benchmark::State& state, preemption how) {
  const auto device = gpu::make_cpu_device();
  engine_options options;
  options.preempt = how;
  options.kv_bytes = uint64_t{30 * 2 * 192 * 2} * 1200;
  const auto model = make_engine(*device, options);
  for (auto _ : state) {
    for (uint64_t id = 1; id <= 6; ++id)
      (void)model->add(request(id, 256, 64));
    while (!model->idle())
      (void)model->step();
  }
  const auto done = model->counters();
  state.counters["preempted"] = static_cast<double>(done.recomputed + done.swapped);
  state.counters["rows"] = static_cast<double>(done.rows);
}
BENCHMARK_CAPTURE(preempt, recompute, preemption::recompute)
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK_CAPTURE(preempt, swap, preemption::swap)
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

} // namespace

BENCHMARK_MAIN();
