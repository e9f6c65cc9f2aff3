#include "engine/gguf/pre_tokenizers.hpp"

#include <array>

namespace troupe::engine {

namespace {

#define TROUPE_LETTER_CASES R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])"
#define TROUPE_CONTRACTIONS R"((?i:'s|'t|'re|'ve|'m|'ll|'d))"
#define TROUPE_ENDINGS R"(|\s*[\r\n]+|\s+(?!\S)|\s+)"

constexpr std::array<std::string_view, 1> llama3{
    TROUPE_CONTRACTIONS
    R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)" TROUPE_ENDINGS};

constexpr std::array<std::string_view, 1> qwen2{
    TROUPE_CONTRACTIONS
    R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)" TROUPE_ENDINGS};

constexpr std::array<std::string_view, 1> tekken{
    TROUPE_LETTER_CASES
    R"(*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)" TROUPE_LETTER_CASES
    R"(+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*)" TROUPE_ENDINGS};

constexpr std::array<std::string_view, 1> gpt4o{
    TROUPE_LETTER_CASES R"(*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)" TROUPE_CONTRACTIONS
                        "?|" TROUPE_LETTER_CASES
                        R"(+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)" TROUPE_CONTRACTIONS
                        R"(?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*)" TROUPE_ENDINGS};

constexpr std::array<std::string_view, 5> deepseek_coder{
    R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)", "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+",
    R"(\p{N})"};

#undef TROUPE_LETTER_CASES
#undef TROUPE_CONTRACTIONS
#undef TROUPE_ENDINGS

constexpr std::span<const std::string_view> own{};

constexpr std::array<pre_tokenizer_kind, 19> kinds{{
    {.name = "llama-bpe", .patterns = llama3, .whole_words = true, .begins_text = true},
    {.name = "llama3", .patterns = llama3, .whole_words = true, .begins_text = true},
    {.name = "llama-v3", .patterns = llama3, .whole_words = true, .begins_text = true},
    {.name = "falcon3", .patterns = llama3, .whole_words = true, .begins_text = true},
    {.name = "pixtral", .patterns = llama3, .whole_words = true, .begins_text = true},
    {.name = "smaug-bpe", .patterns = llama3},
    {.name = "dbrx", .patterns = llama3},
    {.name = "qwen2", .patterns = qwen2, .composes = true},
    {.name = "deepseek-r1-qwen", .patterns = qwen2},
    {.name = "stablelm2", .patterns = qwen2},
    {.name = "tekken", .patterns = tekken, .whole_words = true, .begins_text = true},
    {.name = "gpt-4o", .patterns = gpt4o},
    {.name = "deepseek-coder", .patterns = deepseek_coder},
    {.name = "gpt-2", .patterns = own, .then_gpt2 = true},
    {.name = "olmo", .patterns = own, .then_gpt2 = true},
    {.name = "smollm", .patterns = own, .single_digits = true, .then_gpt2 = true},
    {.name = "starcoder", .patterns = own, .single_digits = true, .then_gpt2 = true},
    {.name = "refact", .patterns = own, .single_digits = true, .then_gpt2 = true},
    {.name = "command-r", .patterns = own, .single_digits = true, .then_gpt2 = true},
}};

} // namespace

const pre_tokenizer_kind* find_pre_tokenizer(std::string_view name) {
  for (const auto& kind : kinds)
    if (kind.name == name)
      return &kind;
  return nullptr;
}

std::string pre_tokenizer_names() {
  std::string out;
  for (const auto& kind : kinds)
    out += (out.empty() ? "" : ", ") + std::string{kind.name};
  return out;
}

} // namespace troupe::engine
