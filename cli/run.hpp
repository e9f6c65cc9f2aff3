#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "config/settings.hpp"

namespace troupe::cli {

struct run_options {
  std::string model; ///< a directory, or the name of a model that is found or served
  std::optional<std::string>
      prompt;      ///< without it: standard input, or a conversation on a terminal
  std::string url; ///< a running server; empty = in this process
  std::string system;
  std::vector<std::string> stop;
  std::optional<float> temperature;
  std::optional<uint64_t> seed;
  std::optional<uint32_t> max_tokens;
  bool raw = false; ///< the prompt as it is, without the chat template
  bool verbose = false;
};

/// `troupe run`: answers on standard output as it is generated; returns the exit code.
int run(const config::settings& settings, const run_options& options);

} // namespace troupe::cli
