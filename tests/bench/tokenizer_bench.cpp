// Tokens per second of encode and decode on English text, and the time to parse a large vocabulary.
#include <fstream>
#include <random>
#include <sstream>
#include <unordered_set>

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

/// A made-up tokenizer of Llama 3's size: 128k tokens of about seven letters and, as every way to
/// split a token into two tokens is a merge, more merges than tokens.
std::string large_tokenizer(size_t size) {
  std::mt19937 random{1};
  std::vector<std::string> tokens;
  for (char c = 'a'; c <= 'z'; ++c)
    tokens.emplace_back(1, c);
  std::unordered_set<std::string> known{tokens.begin(), tokens.end()};
  while (tokens.size() < size) {
    auto joined =
        tokens[random() % tokens.size()] + tokens[random() % std::min<size_t>(tokens.size(), 2000)];
    if (joined.size() <= 14 && known.insert(joined).second)
      tokens.push_back(std::move(joined));
  }
  std::string vocab, merges;
  for (size_t i = 0; i < tokens.size(); ++i) {
    vocab += (i ? ",\"" : "\"") + tokens[i] + "\":" + std::to_string(i);
    for (size_t cut = 1; cut < tokens[i].size(); ++cut) {
      const auto left = tokens[i].substr(0, cut), right = tokens[i].substr(cut);
      if (known.contains(left) && known.contains(right))
        merges += (merges.empty() ? "\"" : ",\"") + left + " " + right + "\"";
    }
  }
  return R"({"model":{"type":"BPE","vocab":{)" + vocab + R"(},"merges":[)" + merges + "]}}";
}

void parse(benchmark::State& state) {
  const auto text = large_tokenizer(static_cast<size_t>(state.range(0)));
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
BENCHMARK(parse)
    ->Name("engine/tokenizer/parse")
    ->ArgName("tokens")
    ->Arg(128000)
    ->Unit(benchmark::kMillisecond);

} // namespace

BENCHMARK_MAIN();
