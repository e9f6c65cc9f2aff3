// Guessing from earlier text: what it gains where every guess is right and costs where none is.
// Prefill, decode, load and sampling are measured by `troupe bench`.
#include <memory>

#include <benchmark/benchmark.h>

#include "tests/bench/shape_engine.hpp"

namespace {

using namespace troupe;
using namespace troupe::engine;

/// Guesses `draft_tokens_max` tokens at a time.
std::unique_ptr<engine::engine> make_engine(gpu::device& device, uint32_t draft_tokens_max) {
  engine_options options;
  options.reuse_prefixes = false;
  options.draft_tokens_max = draft_tokens_max;
  return bench::make_engine(device, options);
}

sequence_request request(uint64_t number, size_t prompt, uint32_t tokens) {
  sequence_request out;
  out.id = {number, 0};
  out.tokens.assign(prompt, static_cast<token_id>(100 + number));
  out.prompt_size = static_cast<uint32_t>(prompt);
  out.sampling.temperature = 0;
  out.sampling.max_tokens = tokens;
  out.sampling.ignore_eos = true;
  return out;
}

/// Guessing where every guess is right (one token for ever), and where none is (noise).
void draft(benchmark::State& state, bool repeats) {
  const auto device = gpu::make_cpu_device();
  const auto model = make_engine(*device, static_cast<uint32_t>(state.range(0)));
  for (int64_t id = 0; id < state.range(1); ++id) {
    auto order = request(static_cast<uint64_t>(id), 16, 4000);
    order.sampling.seed = static_cast<uint64_t>(id);
    if (repeats)
      order.sampling.logit_bias = {{7, 100.0f}};
    else
      order.sampling.temperature = 100;
    (void)model->add(order);
  }
  for (int i = 0; i < 4; ++i)
    (void)model->step();
  size_t tokens = 0;
  for (auto _ : state)
    tokens += model->step()->size();
  state.counters["tokens/s"] =
      benchmark::Counter(static_cast<double>(tokens), benchmark::Counter::kIsRate);
}
BENCHMARK_CAPTURE(draft, repeating, true)
    ->Name("engine/draft/SmolLM2-135M-bf16/repeating")
    ->ArgNames({"draft", "batch"})
    ->ArgsProduct({{0, 4, 8, 16}, {1, 8}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK_CAPTURE(draft, noise, false)
    ->Name("engine/draft/SmolLM2-135M-bf16/noise")
    ->ArgNames({"draft", "batch"})
    ->ArgsProduct({{0, 8}, {1, 8}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

} // namespace

BENCHMARK_MAIN();
