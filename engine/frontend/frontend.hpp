#pragma once
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/error.hpp"
#include "engine/chat_template/chat_template.hpp"
#include "engine/engine.hpp"
#include "engine/model/generation_config.hpp"
#include "engine/model/model_config.hpp"
#include "engine/tokenizer/tokenizer.hpp"

namespace troupe::engine {

/// The text side of a model: everything about it but its weights. Immutable and thread safe.
struct frontend {
  std::string name;
  model_config config;
  generation_defaults defaults;
  std::shared_ptr<const tokenizer> tokens;
  /// Null when the model has no chat template: chat requests are then refused.
  std::shared_ptr<const chat_template> chat;
  std::string bos_token; ///< empty when there is none
  std::string eos_token;
  uint32_t context_length = 0;

  /// Renders `messages` (an OpenAI message list), adding bos/eos and `extra` (tools,
  /// add_generation_prompt, chat_template_kwargs ...) to the template's context.
  caf::expected<std::string> render_chat(const nlohmann::ordered_json& messages,
                                         const nlohmann::ordered_json& extra) const;
  /// Renders and tokenizes; the template writes its own special tokens, so none are added.
  caf::expected<std::vector<token_id>> encode_chat(const nlohmann::ordered_json& messages,
                                                   const nlohmann::ordered_json& extra) const;
};

/// config.json with the end tokens of generation_config.json: what an engine needs to know of
/// `dir`.
caf::expected<model_config> load_model_config(const std::filesystem::path& dir);

/// Reads config.json, generation_config.json, tokenizer.json, tokenizer_config.json,
/// special_tokens_map.json and chat_template.jinja of a Hugging Face directory. Does file I/O.
caf::expected<std::shared_ptr<const frontend>> load_frontend(const std::filesystem::path& dir,
                                                             const std::string& name);

} // namespace troupe::engine
