#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include "base/metadata.hpp"
#include "engine/engine.hpp"

namespace troupe::engine {

/// `tokenizer.ggml.bos_token_id`, if it is in the vocabulary.
std::optional<token_id> gguf_bos_token(const metadata& values, int64_t vocab_size);

/// The tokens that end a text: those that the metadata names so, and control tokens whose text says
/// it (a file often names the end of a turn only, where its model also writes the end of a text).
std::vector<token_id> gguf_end_tokens(const metadata& values, int64_t vocab_size);

} // namespace troupe::engine
