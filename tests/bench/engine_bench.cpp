// The whole engine in real shapes with random bf16 weights: decode and prefill tokens per second.
// Decode at batch 1 reads every weight once a token, so its floor is weight bytes over the read
// bandwidth, which is probed in the same run (two threads, eight streams each).
#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <random>
#include <thread>

#include <benchmark/benchmark.h>

#include "engine/model/model_config.hpp"
#include "engine/model/weights.hpp"
#include "engine/sampler/sampler.hpp"
#include "gpu/device.hpp"

namespace {

using namespace troupe;
using namespace troupe::engine;

const char* shape_json(const std::string& name) {
  if (name == "135m") // SmolLM2-135M
    return R"({"architectures":["LlamaForCausalLM"],"vocab_size":49152,
      "hidden_size":576,"intermediate_size":1536,
      "num_hidden_layers":30,"num_attention_heads":9,"num_key_value_heads":3,
      "max_position_embeddings":8192,
      "rope_theta":100000,"tie_word_embeddings":true,"torch_dtype":"bfloat16"})";
  return R"({"architectures":["Qwen2ForCausalLM"],"vocab_size":151936,
      "hidden_size":896,"intermediate_size":4864,
      "num_hidden_layers":24,"num_attention_heads":14,"num_key_value_heads":2,
      "max_position_embeddings":32768,
      "rope_theta":1000000,"tie_word_embeddings":true,"torch_dtype":"bfloat16"})"; // Qwen2.5-0.5B
}

struct loaded {
  std::unique_ptr<gpu::device> device = gpu::make_cpu_device();
  std::map<std::string, std::vector<uint16_t>, std::less<>> tensors;
  std::unique_ptr<engine::engine> model;
  uint64_t weight_bytes = 0;

  explicit loaded(const std::string& shape) {
    const auto config = parse_model_config(shape_json(shape), shape);
    std::mt19937 random{1};
    std::map<std::string, std::vector<int64_t>, std::less<>> shapes;
    for (const auto& spec : weight_plan(*config)) {
      size_t count = 1;
      for (const auto side : spec.shape)
        count *= static_cast<size_t>(side);
      auto& values = tensors[spec.name];
      values.resize(count);
      for (auto& one : values) // small, any sign: bits of bf16 numbers around 2^-6
        one = static_cast<uint16_t>((random() & 0x807f) | 0x3c80);
      shapes[spec.name] = spec.shape;
    }
    auto made = engine::engine::create(*config,
                                       [&](std::string_view name) -> std::optional<weight_view> {
                                         return weight_view{dtype::bf16, shapes.find(name)->second,
                                                            tensors.find(name)->second.data()};
                                       },
                                       nullptr, *device, {});
    model = std::move(*made);
    weight_bytes = model->memory().weights_bytes;
  }
};

double read_gigabytes_per_second() {
  constexpr size_t words = 64u << 20; // 512 MiB
  static std::vector<uint64_t> memory(words, 1);
  double best = 0;
  for (int round = 0; round < 5; ++round) {
    const auto begun = std::chrono::steady_clock::now();
    std::vector<std::thread> threads;
    const size_t count = std::max(1u, std::thread::hardware_concurrency());
    for (size_t t = 0; t < count; ++t)
      threads.emplace_back([&, t] {
        const size_t share = words / count, lane = share / 8;
        const uint64_t* base = memory.data() + t * share;
        uint64_t sums[8] = {};
        for (size_t i = 0; i < lane; ++i)
          for (size_t s = 0; s < 8; ++s)
            sums[s] += base[s * lane + i];
        benchmark::DoNotOptimize(sums);
      });
    for (auto& thread : threads)
      thread.join();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun;
    best = std::max(best, words * 8 / took.count() / 1e9);
  }
  return best;
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

void decode(benchmark::State& state, const std::string& shape) {
  loaded one{shape};
  const auto batch = static_cast<uint64_t>(state.range(0));
  for (uint64_t id = 0; id < batch; ++id)
    (void)one.model->add(request(id, 16, 4000));
  for (int i = 0; i < 4; ++i)
    (void)one.model->step(); // the prompts
  size_t tokens = 0;
  for (auto _ : state)
    tokens += one.model->step()->size();
  state.counters["tokens/s"] =
      benchmark::Counter(static_cast<double>(tokens), benchmark::Counter::kIsRate);
  state.counters["weight_GB/s"] = benchmark::Counter(static_cast<double>(one.weight_bytes) / 1e9 *
                                                         static_cast<double>(state.iterations()),
                                                     benchmark::Counter::kIsRate);
  state.counters["read_GB/s"] = read_gigabytes_per_second();
}

void prefill(benchmark::State& state, const std::string& shape) {
  loaded one{shape};
  uint64_t id = 0;
  for (auto _ : state) {
    (void)one.model->add(request(++id, static_cast<size_t>(state.range(0)), 1));
    while (!one.model->idle())
      (void)one.model->step();
  }
  state.counters["tokens/s"] = benchmark::Counter(
      static_cast<double>(state.range(0) * state.iterations()), benchmark::Counter::kIsRate);
}

BENCHMARK_CAPTURE(decode, smollm2, "135m")
    ->Name("engine/decode/SmolLM2-135M-bf16")
    ->ArgName("batch")
    ->Arg(1)
    ->Arg(8)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK_CAPTURE(decode, qwen, "0.5b")
    ->Name("engine/decode/Qwen2.5-0.5B-bf16")
    ->ArgName("batch")
    ->Arg(1)
    ->Arg(8)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK_CAPTURE(prefill, smollm2, "135m")
    ->Name("engine/prefill/SmolLM2-135M-bf16")
    ->ArgName("tokens")
    ->Arg(512)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK_CAPTURE(prefill, qwen, "0.5b")
    ->Name("engine/prefill/Qwen2.5-0.5B-bf16")
    ->ArgName("tokens")
    ->Arg(512)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

/// One draw from 151,936 logits. The floor is one pass over them: 0.6 MB, in the cache.
void sample(benchmark::State& state, float top_p, int32_t top_k, float spread, int32_t logprobs) {
  std::mt19937_64 random{1};
  std::normal_distribution<float> normal{0, spread};
  std::vector<float> source(151'936);
  for (auto& one : source)
    one = normal(random);
  sampling_params params;
  params.top_p = top_p;
  params.top_k = top_k;
  params.top_logprobs = logprobs;
  const std::vector<token_id> tokens(8, 1);
  sampler chooser;
  std::vector<float> logits;
  for (auto _ : state) {
    ++params.seed;
    logits = source;
    benchmark::DoNotOptimize(chooser.sample(logits, {params, tokens, 4, {}}));
  }
}
BENCHMARK_CAPTURE(sample, plain, 1.0f, 0, 2.5f, -1)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(sample, top_p_0_9, 0.9f, 0, 2.5f, -1)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(sample, top_p_0_9_peaked, 0.9f, 0, 6.0f, -1)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(sample, top_k_40, 1.0f, 40, 2.5f, -1)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(sample, top_k_40_top_p, 0.9f, 40, 2.5f, -1)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(sample, logprobs_5, 1.0f, 0, 2.5f, 5)->Unit(benchmark::kMicrosecond);

} // namespace

BENCHMARK_MAIN();
