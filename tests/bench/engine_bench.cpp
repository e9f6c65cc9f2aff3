// The whole engine in real shapes with random bf16 weights: decode and prefill tokens per second.
// Decode at batch 1 reads every weight once a token, so its floor is weight bytes over the read
// bandwidth, which is probed in the same run (two threads, eight streams each).
#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <random>
#include <thread>
#include <utility>

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
  if (name == "1b") // Llama-3.2-1B
    return R"({"architectures":["LlamaForCausalLM"],"vocab_size":128256,
      "hidden_size":2048,"intermediate_size":8192,
      "num_hidden_layers":16,"num_attention_heads":32,"num_key_value_heads":8,
      "max_position_embeddings":8192,
      "rope_theta":500000,"tie_word_embeddings":true,"torch_dtype":"bfloat16"})";
  return R"({"architectures":["Qwen2ForCausalLM"],"vocab_size":151936,
      "hidden_size":896,"intermediate_size":4864,
      "num_hidden_layers":24,"num_attention_heads":14,"num_key_value_heads":2,
      "max_position_embeddings":32768,
      "rope_theta":1000000,"tie_word_embeddings":true,"torch_dtype":"bfloat16"})"; // Qwen2.5-0.5B
}

struct tensor {
  std::vector<int64_t> shape;
  std::vector<uint16_t> values;
};
using tensors = std::map<std::string, tensor, std::less<>>;

/// Random weights of a shape; those of the last one are kept.
const tensors& random_tensors(const std::string& shape, const model_config& config) {
  static std::string made_for;
  static tensors made;
  if (std::exchange(made_for, shape) == shape)
    return made;
  made.clear();
  std::mt19937_64 random{1};
  for (const auto& spec : weight_plan(config)) {
    size_t count = 1;
    for (const auto side : spec.shape)
      count *= static_cast<size_t>(side);
    auto& values = made.emplace(spec.name, tensor{spec.shape, {}}).first->second.values;
    values.resize((count + 3) / 4 * 4);
    for (size_t i = 0; i < values.size(); i += 4) {
      // Small, any sign: bits of bf16 numbers around 2^-6.
      const uint64_t four = (random() & 0x807f807f807f807full) | 0x3c803c803c803c80ull;
      std::memcpy(&values[i], &four, sizeof four);
    }
  }
  return made;
}

struct loaded {
  std::unique_ptr<gpu::device> device = gpu::make_cpu_device();
  std::unique_ptr<engine::engine> model;
  uint64_t weight_bytes = 0; ///< that a decode step reads

  /// Without guesses unless told: what repeats by chance would count as speed.
  loaded(const std::string& shape, quantization quantize, uint32_t draft_tokens_max = 0) {
    const auto config = parse_model_config(shape_json(shape), shape);
    const auto& from = random_tensors(shape, *config);
    engine_options options;
    options.quantize = quantize;
    options.reuse_prefixes = false;
    options.draft_tokens_max = draft_tokens_max;
    auto made = engine::engine::create(
        *config,
        [&](std::string_view name) -> std::optional<weight_view> {
          const auto& one = from.find(name)->second;
          return weight_view{dtype::bf16, one.shape, one.values.data()};
        },
        nullptr, *device, options);
    model = std::move(*made);
    weight_bytes = model->memory().weights_bytes;
    if (quantize != quantization::none) // then the embedding is only looked up
      weight_bytes -= static_cast<uint64_t>(config->vocab_size * config->hidden_size) * 2;
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

void decode(benchmark::State& state, const std::string& shape, quantization quantize) {
  loaded one{shape, quantize};
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

void prefill(benchmark::State& state, const std::string& shape, quantization quantize) {
  loaded one{shape, quantize};
  uint64_t id = 0;
  for (auto _ : state) {
    (void)one.model->add(request(++id, static_cast<size_t>(state.range(0)), 1));
    while (!one.model->idle())
      (void)one.model->step();
  }
  state.counters["tokens/s"] = benchmark::Counter(
      static_cast<double>(state.range(0) * state.iterations()), benchmark::Counter::kIsRate);
}

/// Guessing where every guess is right (one token for ever), and where none is (noise).
void draft(benchmark::State& state, bool repeats) {
  loaded one{"135m", quantization::none, static_cast<uint32_t>(state.range(0))};
  for (int64_t id = 0; id < state.range(1); ++id) {
    auto order = request(static_cast<uint64_t>(id), 16, 4000);
    order.sampling.seed = static_cast<uint64_t>(id);
    if (repeats)
      order.sampling.logit_bias = {{7, 100.0f}};
    else
      order.sampling.temperature = 100;
    (void)one.model->add(order);
  }
  for (int i = 0; i < 4; ++i)
    (void)one.model->step();
  size_t tokens = 0;
  for (auto _ : state)
    tokens += one.model->step()->size();
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

void register_shapes() {
  const std::pair<const char*, const char*> shapes[] = {
      {"135m", "SmolLM2-135M"}, {"0.5b", "Qwen2.5-0.5B"}, {"1b", "Llama-3.2-1B"}};
  const std::pair<quantization, const char*> kinds[] = {
      {quantization::none, "bf16"}, {quantization::int8, "int8"}, {quantization::int4, "int4"}};
  for (const auto& [shape, title] : shapes)
    for (const auto& [quantize, type] : kinds) {
      const auto name = std::string{title} + "-" + type;
      const auto bind = [shape = std::string{shape}, quantize = quantize](auto* what) {
        return [=](benchmark::State& state) { what(state, shape, quantize); };
      };
      benchmark::RegisterBenchmark(("engine/decode/" + name).c_str(), bind(decode))
          ->ArgName("batch")
          ->Arg(1)
          ->Arg(8)
          ->Arg(32)
          ->Unit(benchmark::kMillisecond)
          ->UseRealTime();
      benchmark::RegisterBenchmark(("engine/prefill/" + name).c_str(), bind(prefill))
          ->ArgName("tokens")
          ->Arg(512)
          ->Unit(benchmark::kMillisecond)
          ->UseRealTime();
    }
}

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

int main(int argc, char** argv) {
  register_shapes();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
