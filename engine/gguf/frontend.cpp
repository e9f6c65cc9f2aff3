#include "engine/gguf/frontend.hpp"

#include <algorithm>

#include "engine/gguf/config.hpp"
#include "engine/gguf/tokenizer.hpp"
#include "engine/gguf/values.hpp"

namespace troupe::engine {

namespace {

/// A number of `general.sampling` within what requests may ask for.
std::optional<float> advice(const metadata& values, std::string_view name, double min, double max) {
  const auto* x = value_if<double>(values, name);
  return x && *x >= min && *x <= max ? std::optional{static_cast<float>(*x)} : std::nullopt;
}

generation_defaults defaults_of(const metadata& values) {
  generation_defaults out;
  out.temperature = advice(values, "general.sampling.temp", 0.0, 100.0);
  out.top_p = advice(values, "general.sampling.top_p", 1e-6, 1.0);
  out.min_p = advice(values, "general.sampling.min_p", 0.0, 1.0);
  out.repetition_penalty = advice(values, "general.sampling.penalty_repeat", 0.01, 100.0);
  if (const auto k = integer_of(values, "general.sampling.top_k"); k && *k <= 1 << 30)
    out.top_k = static_cast<int32_t>(std::max<int64_t>(*k, 0));
  return out;
}

std::string token_text(const metadata& values, std::optional<int64_t> id) {
  const auto* texts = list_if<std::string_view>(values, "tokenizer.ggml.tokens");
  if (!texts || !id || *id < 0 || static_cast<size_t>(*id) >= texts->size())
    return {};
  return std::string{(*texts)[static_cast<size_t>(*id)]};
}

} // namespace

caf::expected<std::shared_ptr<const frontend>> load_gguf_frontend(const gguf_source& source,
                                                                  const std::string& name) {
  auto out = std::make_shared<frontend>();
  out->name = name;
  auto config = gguf_model_config(source);
  if (!config)
    return config.error();
  out->config = std::move(*config);
  out->context_length =
      static_cast<uint32_t>(std::min<int64_t>(out->config.context_length, UINT32_MAX));
  out->defaults = defaults_of(source.values);
  auto tokens = gguf_tokenizer(source);
  if (!tokens)
    return tokens.error();
  out->tokens = std::move(*tokens);
  const auto& values = source.values;
  out->bos_token = token_text(values, integer_of(values, "tokenizer.ggml.bos_token_id"));
  out->eos_token = token_text(values, integer_of(values, "tokenizer.ggml.eos_token_id"));
  if (const auto* text = value_if<std::string_view>(values, "tokenizer.chat_template")) {
    auto compiled =
        chat_template::compile(std::string{*text}, source.origin + ": tokenizer.chat_template");
    if (!compiled)
      return compiled.error();
    out->chat = std::move(*compiled);
  }
  return std::shared_ptr<const frontend>{std::move(out)};
}

} // namespace troupe::engine
