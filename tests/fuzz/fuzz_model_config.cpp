// config.json and generation_config.json from strangers never crash the parsers.
#include <cstdint>
#include <string_view>

#include "engine/model/generation_config.hpp"
#include "engine/model/model_config.hpp"
#include "engine/model/rope.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace troupe::engine;
  const std::string_view text{reinterpret_cast<const char*>(data), size};
  const auto defaults = parse_generation_config(text, "fuzz");
  auto config = parse_model_config(text, "fuzz");
  if (!config)
    return 0;
  if (defaults)
    add_end_tokens(*config, *defaults);
  engine_options options;
  // What parses is safe to plan with: no division by zero, no overflow.
  return estimate_memory(*config, 0, options).kv_bytes == 1 ? 1 : 0;
}
