#include "engine/gguf/end_tokens.hpp"

#include <algorithm>
#include <array>

#include "engine/gguf/values.hpp"

namespace troupe::engine {

namespace {

constexpr std::array<std::string_view, 4> end_keys{
    "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id",
    "tokenizer.ggml.eog_token_id"};

/// Texts of control tokens that end a text or a turn in the families that are served.
constexpr std::array<std::string_view, 8> end_texts{
    "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|endoftext|>",
    "<|im_end|>", "<|end|>",    "<end_of_turn>",   "<|end_of_turn|>"};

} // namespace

std::optional<token_id> gguf_bos_token(const metadata& values, int64_t vocab_size) {
  const auto id = integer_of(values, "tokenizer.ggml.bos_token_id");
  if (!id || *id < 0 || *id >= vocab_size)
    return std::nullopt;
  return static_cast<token_id>(*id);
}

std::vector<token_id> gguf_end_tokens(const metadata& values, int64_t vocab_size) {
  std::vector<token_id> out;
  const auto add = [&](int64_t id) {
    const auto token = static_cast<token_id>(id);
    if (id >= 0 && id < vocab_size && std::find(out.begin(), out.end(), token) == out.end())
      out.push_back(token);
  };
  for (const auto key : end_keys)
    if (const auto id = integer_of(values, key))
      add(*id);
  const auto* texts = list_if<std::string_view>(values, "tokenizer.ggml.tokens");
  for (size_t i = 0; texts && i < texts->size(); ++i)
    if ((*texts)[i].starts_with('<') && kind_of_token(values, i) == gguf_token_kind::control &&
        std::find(end_texts.begin(), end_texts.end(), (*texts)[i]) != end_texts.end())
      add(static_cast<int64_t>(i));
  return out;
}

} // namespace troupe::engine
