// Any bytes are a configuration or a list of problems, never a crash.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "config/layers.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  troupe::config::layers all;
  all.file(text, "fuzz.yaml", "/");
  all.check();
  for (const auto& problem : all.problems())
    if (problem.what.empty())
      std::abort(); // a problem must say something
  if (!all.problems().empty())
    return 0;
  // What was accepted can be shown, and what is shown is accepted.
  troupe::config::layers again;
  again.file(troupe::config::show(all.values(), nullptr), "again.yaml", "/");
  if (!again.problems().empty())
    std::abort();
  return 0;
}
