#pragma once
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "actors/node.hpp"
#include "cli/run.hpp"

namespace troupe::cli {

/// How one answer went.
struct answer_report {
  int code = 0; ///< exit code
  std::string text;
  uint32_t tokens = 0;
  double first_token_seconds = 0;
  double total_seconds = 0;
};

/// Where answers come from: this process or a server.
class answerer {
public:
  virtual ~answerer() = default;
  /// Blocks until the answer is whole; `on_text` gets each piece as it comes.
  virtual answer_report answer(const nlohmann::ordered_json& messages,
                               const std::function<void(std::string_view)>& on_text) = 0;
};

std::unique_ptr<answerer> make_local_answerer(actors::services& services, model_id model,
                                              const run_options& options);
std::unique_ptr<answerer> make_remote_answerer(const run_options& options);

/// Shows how a cold model loads, on standard error when that is a terminal.
void show_load(std::string_view phase, uint64_t done_bytes, uint64_t total_bytes);
void clear_load();

} // namespace troupe::cli
