#pragma once
#include <memory>

#include "engine/gguf/source.hpp"
#include "engine/tokenizer/tokenizer.hpp"

namespace troupe::engine {

/// The tokenizer that the metadata describes: byte-level BPE ("gpt2", cut into words as
/// `tokenizer.ggml.pre` names it) or SentencePiece's BPE ("llama"), or a whole tokenizer.json where
/// the file carries one. Gives the ids that the model's own Hugging Face tokenizer gives.
caf::expected<std::shared_ptr<const tokenizer>> gguf_tokenizer(const gguf_source& source);

} // namespace troupe::engine
