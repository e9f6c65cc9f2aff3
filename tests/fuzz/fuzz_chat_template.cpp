// Compiles the input as a chat template and renders it with a small conversation.
#include <cstdint>
#include <string_view>

#include <nlohmann/json.hpp>

#include "engine/chat_template/chat_template.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace troupe::engine;
  static const auto context = nlohmann::ordered_json::parse(R"({
    "messages": [{"role": "system", "content": "Be \u00e9."}, {"role": "user", "content": "Hi"},
                 {"role": "assistant", "content": null,
                  "tool_calls": [{"id": "x",
                    "function": {"name": "f", "arguments": {"a": [1, 2.5]}}}]},
                 {"role": "tool", "content": "ok", "name": "f"}],
    "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters":
               {"type": "object",
               "properties": {"a": {"type": "array", "items": {"type": "number"}}}}}}],
    "bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": true, "n": 3,
    "s": "a b,c", "l": [3, 1, 2]})");
  chat_template_options options;
  options.steps_max = 20'000;
  options.output_bytes_max = 1 << 16;
  options.now = [] { return std::time_t{0}; };
  const std::string_view source(reinterpret_cast<const char*>(data), size);
  if (const auto compiled = chat_template::compile(source, "fuzz", options))
    static_cast<void>((*compiled)->render(context));
  return 0;
}
