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

/// What stands in a tokenizer.json before and behind the model.
struct outer_steps {
  pre_tokenizer_chain chain;
  std::unique_ptr<const normalizer> normalize; // may be null
  post_processor specials;
};

/// What a tokenizer.json says, compiled.
struct tokenizer::parts {
  explicit parts(bpe built) : model{std::move(built)} {}

  /// Puts the rest in place: the decoder, and what follows from all the parts together.
  caf::error finish(json_fields::element root, std::vector<added_token> tokens,
                    const std::string& origin);

  /// A tokenizer of these parts.
  static caf::expected<std::shared_ptr<const tokenizer>> join(outer_steps steps, bpe model,
                                                              json_fields::element root,
                                                              std::vector<added_token> tokens,
                                                              const std::string& origin);

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
  bool specials_in_model = false; // the model's vocabulary has special tokens as well
  size_t vocab_size = 0;
  mutable word_cache words;

  /// One call of encode under way.
  struct run {
    std::vector<token_id>& out;
    word_cache::shard& cache;
    bool parse_special;
  };
  void encode_text(std::string_view text, bool at_start, const run& on) const;
  void encode_piece(std::string_view text, const run& on) const;
  void encode_word(std::string_view word, const run& on) const;
  /// The piece that `id` decodes from, or nothing for an id that no token has.
  std::optional<std::string_view> piece_of(token_id id) const;
  bool is_special(token_id id) const;
};

} // namespace troupe::engine
