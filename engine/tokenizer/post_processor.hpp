#pragma once
#include <vector>

#include "engine/tokenizer/bpe.hpp"
#include "engine/tokenizer/json_fields.hpp"

namespace troupe::engine {

/// The special tokens that tokenizer.json's `post_processor` puts around one text.
struct post_processor {
  std::vector<token_id> before;
  std::vector<token_id> after;
};

/// Kinds: Sequence, TemplateProcessing, ByteLevel (which moves offsets only), RobertaProcessing,
/// BertProcessing.
caf::error add_post_processor(json_fields::element spec, const std::string& origin,
                              post_processor& out);

} // namespace troupe::engine
