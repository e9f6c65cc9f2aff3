#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/tokenizer/json_fields.hpp"
#include "engine/tokenizer/merge_table.hpp"
#include "engine/tokenizer/vocabulary.hpp"

namespace troupe::engine {

/// The texts of two tokens that a merge joins.
using token_pair = std::pair<std::string_view, std::string_view>;

/// Byte-pair encoding (Sennrich et al. 2016): merges neighbouring symbols, lowest rank first, then
/// leftmost, as the `tokenizers` package does, byte fallback and unknown tokens included.
class bpe {
public:
  /// `byte_level`: words arrive as raw bytes and stand for GPT-2's alphabet.
  static caf::expected<bpe> make(json_fields::element model, bool byte_level,
                                 const std::string& origin);

  /// The same with the vocabulary and the merges, lowest rank first, given apart. Merges that name
  /// tokens which the vocabulary lacks can never apply, and are left out.
  static caf::expected<bpe> make(json_fields::element model, bool byte_level, vocabulary tokens,
                                 std::span<const token_pair> merges, const std::string& origin);

  /// Appends the ids of one word (a pre-tokenized piece).
  void encode(std::string_view word, std::vector<token_id>& out) const;
  /// The same without a single merge: spells the word.
  void spell(std::string_view word, std::vector<token_id>& out) const;

  const vocabulary& tokens() const { return tokens_; }
  std::optional<token_id> unknown() const { return unknown_; }
  /// True when a merge can never join what stands before a mark (U+2581) that follows another
  /// character with the mark: a whole text may then be cut there and encoded part by part.
  bool may_cut_before(std::string_view mark) const;

  bpe(bpe&&) = default;
  bpe& operator=(bpe&&) = default;

private:
  explicit bpe(vocabulary tokens) : tokens_{std::move(tokens)} {}
  struct symbol {
    token_id id;
    int32_t previous, next;
    bool gone;
  };
  caf::error read_options(json_fields::element model, bool byte_level, const std::string& origin);
  bool add_merge(std::string_view left, std::string_view right, uint32_t rank);
  caf::error read_merges(simdjson::dom::array merges, const std::string& origin);
  std::vector<symbol> symbols_of(std::string_view word) const;
  void start_symbols(std::string_view word, std::vector<symbol>& symbols) const;
  void start_bytes(std::string_view word, std::vector<symbol>& symbols) const;
  bool add_fallback(std::string_view character, std::vector<symbol>& symbols) const;
  void merge_short(std::vector<symbol>& symbols) const;
  void merge_long(std::vector<symbol>& symbols) const;

  vocabulary tokens_;
  merge_table merges_;
  std::array<token_id, 256> byte_ids_{};     // of GPT-2's alphabet, -1 when missing
  std::array<token_id, 256> fallback_ids_{}; // of <0xNN>, -1 when missing
  std::string prefix_, suffix_;
  std::optional<token_id> unknown_;
  bool fuse_unknown_ = false, byte_fallback_ = false, ignore_merges_ = false, byte_level_ = false;
};

} // namespace troupe::engine
