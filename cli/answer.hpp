#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "actors/services.hpp"
#include "cli/run.hpp"

namespace troupe::cli {

/// How one answer went.
struct answer_report {
  int code = 0; ///< exit code
  std::string text;
  std::string failure; ///< what to tell when the code is not ok
  uint32_t prompt_tokens = 0;
  uint32_t tokens = 0;
  double first_token_seconds = 0;
  double total_seconds = 0;
  std::optional<double> load_seconds; ///< when the model was cold
};

/// What an answer in progress tells. All calls come from the thread that called `answer`.
struct answer_events {
  std::function<void(std::string_view text)> on_text;
  std::function<void(std::string_view phase, uint64_t done_bytes, uint64_t total_bytes)> on_load;
};

/// Where answers come from: this process or a server.
class answerer {
public:
  virtual ~answerer() = default;
  /// Blocks until the answer is whole, failed or cancelled (code `interrupted`).
  virtual answer_report answer(const nlohmann::ordered_json& messages,
                               const answer_events& events) = 0;
  /// Ends the answer in progress, if any. Any thread.
  virtual void cancel() = 0;
};

std::unique_ptr<answerer> make_local_answerer(actors::services& services, model_id model,
                                              const run_options& options);
std::unique_ptr<answerer> make_remote_answerer(const run_options& options);

} // namespace troupe::cli
