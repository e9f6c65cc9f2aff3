#pragma once
#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "engine/chat_template/errors.hpp"

namespace troupe::engine {

/// What a rendering may use, and what time it is. A template comes with a model from anywhere, so
/// the bounds hold for every template.
struct chat_template_options {
  uint64_t steps_max = 50'000'000;       ///< evaluation steps; long strings cost several
  uint64_t output_bytes_max = 64u << 20; ///< also the longest string in between
  uint64_t source_bytes_max = 1u << 20;
  /// What strftime_now writes, in local time; std::time when empty.
  std::function<std::time_t()> now;
};

/// A compiled chat template: the subset of Jinja2 that model authors use, rendering what Python's
/// jinja2 renders as Hugging Face transformers sets it up. Immutable; safe to share between
/// threads.
class chat_template {
public:
  /// `origin` names the source in errors, for example a file path. Fails with
  /// template_errc::syntax, unsupported or limit; the text names the origin and the line.
  static caf::expected<std::shared_ptr<const chat_template>>
  compile(std::string_view source, const std::string& origin, chat_template_options options = {});

  /// `context` is an object of the template's variables: messages, tools, documents,
  /// add_generation_prompt, bos_token, eos_token and whatever else it asks for. A variable that
  /// transformers would pass as None must be there as null. The order of keys is kept. Fails with
  /// template_errc: raised when the template itself refuses the conversation.
  caf::expected<std::string> render(const nlohmann::ordered_json& context) const;

  ~chat_template();
  chat_template(const chat_template&) = delete;
  chat_template& operator=(const chat_template&) = delete;

private:
  struct state;
  explicit chat_template(std::unique_ptr<const state> held);
  std::unique_ptr<const state> state_;
};

} // namespace troupe::engine
