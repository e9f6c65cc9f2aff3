#include <fstream>
#include <sstream>

#include <benchmark/benchmark.h>
#include <nlohmann/json.hpp>

#include "engine/chat_template/chat_template.hpp"

namespace {

using namespace troupe::engine;

std::string read_template(const std::string& name) {
  std::ifstream in(TROUPE_SOURCE_DIR "/tests/golden/chat_templates/" + name + ".jinja");
  std::stringstream out;
  out << in.rdbuf();
  return out.str();
}

nlohmann::ordered_json conversation(int64_t messages) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (int64_t i = 0; i < messages; ++i)
    list.push_back(
        {{"role", i % 2 == 0 ? "user" : "assistant"},
         {"content", "Some words of ordinary length, as people write them. " + std::to_string(i)}});
  return {{"messages", list},
          {"tools", nullptr},
          {"bos_token", "<s>"},
          {"eos_token", "</s>"},
          {"add_generation_prompt", true}};
}

void render(benchmark::State& state, const std::string& name) {
  const auto compiled = chat_template::compile(read_template(name), name);
  const auto context = conversation(state.range(0));
  for (auto _ : state)
    benchmark::DoNotOptimize((*compiled)->render(context));
}

void compile(benchmark::State& state, const std::string& name) {
  const std::string source = read_template(name);
  for (auto _ : state)
    benchmark::DoNotOptimize(chat_template::compile(source, name));
}

BENCHMARK_CAPTURE(render, engine / chat_template / render / qwen3, "qwen3_thinking")
    ->Arg(1)
    ->Arg(101);
BENCHMARK_CAPTURE(render, engine / chat_template / render / llama31, "llama31_tools")
    ->Arg(1)
    ->Arg(101);
BENCHMARK_CAPTURE(compile, engine / chat_template / compile / qwen3, "qwen3_thinking");

} // namespace
BENCHMARK_MAIN();
