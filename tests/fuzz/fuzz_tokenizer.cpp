// tokenizer.json from strangers: parsing never crashes, and what parses can encode and decode.
#include <cstdint>
#include <string_view>

#include "engine/tokenizer/stream_decoder.hpp"
#include "engine/tokenizer/tokenizer.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace troupe::engine;
  const std::string_view text{reinterpret_cast<const char*>(data), size};
  const auto parsed = tokenizer::parse(text, "fuzz");
  if (!parsed)
    return 0;
  // The file's own bytes are as odd a text as any.
  const auto ids = (*parsed)->encode(text.substr(0, 512));
  stream_decoder decoder{*parsed};
  size_t total = (*parsed)->decode(ids).size();
  for (const auto id : ids)
    total += decoder.push(id).size();
  total += decoder.flush().size();
  return total > (size_t{1} << 40) ? 1 : 0;
}
