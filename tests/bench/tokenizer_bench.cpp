// Tokens per second of encode and decode on English text, and the time to parse a large vocabulary.
#include <fstream>
#include <sstream>

#include <benchmark/benchmark.h>

#include "engine/tokenizer/tokenizer.hpp"

namespace {

using namespace troupe::engine;

std::string source(const std::string& path) {
  std::ifstream in(std::string{TROUPE_SOURCE_DIR} + path);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

/// The project's own prose, about a mebibyte.
std::string english() {
  const auto page = source("/LICENSE") + source("/README.md") + source("/ARCHITECTURE.md");
  std::string text;
  while (text.size() < (1 << 20))
    text += page;
  return text;
}

void encode(benchmark::State& state, const std::string& family) {
  const auto tokens = tokenizer::load(std::string{TROUPE_SOURCE_DIR} + "/tests/golden/tokenizers/" +
                                      family + ".json");
  const auto text = english();
  size_t count = 0;
  for (auto _ : state)
    count += (*tokens)->encode(text).size();
  state.counters["tokens/s"] =
      benchmark::Counter(static_cast<double>(count), benchmark::Counter::kIsRate);
  state.SetBytesProcessed(static_cast<int64_t>(text.size() * state.iterations()));
}

void decode(benchmark::State& state, const std::string& family) {
  const auto tokens = tokenizer::load(std::string{TROUPE_SOURCE_DIR} + "/tests/golden/tokenizers/" +
                                      family + ".json");
  const auto ids = (*tokens)->encode(english());
  for (auto _ : state)
    benchmark::DoNotOptimize((*tokens)->decode(ids));
  state.counters["tokens/s"] = benchmark::Counter(
      static_cast<double>(ids.size() * state.iterations()), benchmark::Counter::kIsRate);
}

/// A made-up vocabulary of a real size: every merge joins two earlier tokens.
std::string large_vocabulary(size_t size) {
  std::vector<std::string> tokens;
  for (char c = 'a'; c <= 'z'; ++c)
    tokens.emplace_back(1, c);
  std::string merges;
  for (size_t i = 0; tokens.size() < size; ++i) {
    const auto left = tokens[i / 26], right = tokens[i % 26];
    tokens.push_back(left + right);
    merges += (merges.empty() ? "\"" : ",\"") + left + " " + right + "\"";
  }
  std::string vocab;
  for (size_t i = 0; i < tokens.size(); ++i)
    vocab += (i ? ",\"" : "\"") + tokens[i] + "\":" + std::to_string(i);
  return R"({"model":{"type":"BPE","vocab":{)" + vocab + R"(},"merges":[)" + merges + "]}}";
}

void parse(benchmark::State& state) {
  const auto text = large_vocabulary(static_cast<size_t>(state.range(0)));
  for (auto _ : state)
    benchmark::DoNotOptimize(tokenizer::parse(text, "bench"));
  state.SetBytesProcessed(static_cast<int64_t>(text.size() * state.iterations()));
}

BENCHMARK_CAPTURE(encode, gpt2, "gpt2")->Name("engine/tokenizer/encode/gpt2");
BENCHMARK_CAPTURE(encode, llama3, "llama3")->Name("engine/tokenizer/encode/llama3");
BENCHMARK_CAPTURE(encode, qwen2, "qwen2")->Name("engine/tokenizer/encode/qwen2");
BENCHMARK_CAPTURE(encode, llama2, "llama2")->Name("engine/tokenizer/encode/llama2");
BENCHMARK_CAPTURE(encode, mistral3, "mistral3")->Name("engine/tokenizer/encode/mistral3");
BENCHMARK_CAPTURE(decode, llama3, "llama3")->Name("engine/tokenizer/decode/llama3");
BENCHMARK_CAPTURE(decode, llama2, "llama2")->Name("engine/tokenizer/decode/llama2");
BENCHMARK(parse)->Name("engine/tokenizer/parse")->ArgName("tokens")->Arg(128000)->Unit(benchmark::kMillisecond);

} // namespace

BENCHMARK_MAIN();
