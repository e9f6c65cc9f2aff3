#pragma once
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/tokenizer/added_tokens.hpp"
#include "engine/tokenizer/bpe.hpp"
#include "engine/tokenizer/decoder.hpp"
#include "engine/tokenizer/normalizer.hpp"
#include "engine/tokenizer/post_processor.hpp"
#include "engine/tokenizer/pre_tokenizer.hpp"
#include "engine/tokenizer/tokenizer.hpp"
#include "engine/tokenizer/word_cache.hpp"

namespace troupe::engine {

/// What a tokenizer.json says, compiled.
struct tokenizer::parts {
  explicit parts(bpe built) : model{std::move(built)} {}

  bpe model;
  std::unique_ptr<const normalizer> normalize; // may be null
  pre_tokenizer_chain pre_tokenizer;
  post_processor specials;
  decoder decode;
  std::vector<added_token> added; // never grows after the matchers point into it
  std::unordered_map<token_id, const added_token*> added_by_id;
  std::unordered_map<std::string, token_id> added_ids;
  added_token_matcher raw_matcher;        // tokens that are looked for in the text as it came
  added_token_matcher normalized_matcher; // and in the normalized text
  std::string cut_mark; // SentencePiece's mark where a text may be cut before it, or empty
  size_t vocab_size = 0;
  mutable word_cache words;

  void encode_text(std::string_view text, bool at_start, bool parse_special,
                   std::vector<token_id>& out) const;
  void encode_piece(std::string_view text, word_cache::shard& cache,
                    std::vector<token_id>& out) const;
  void encode_word(std::string_view word, word_cache::shard& cache,
                   std::vector<token_id>& out) const;
  /// The piece as text, for ids of the model and added ones; nullptr-like empty when unknown.
  std::optional<std::string_view> piece_of(token_id id) const;
  bool is_special(token_id id) const;
};

} // namespace troupe::engine
