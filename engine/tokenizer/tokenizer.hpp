#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.hpp"

namespace troupe::engine {

using token_id = int32_t;
class stream_decoder;

/// A token that is looked for in the text before anything else is done with it.
struct listed_token {
  token_id id = 0;
  std::string_view text;
  bool special = false; ///< not part of a text: may be told apart, and left out when decoding
};

/// A vocabulary as lists.
struct token_lists {
  std::vector<std::string_view> tokens; ///< by id; empty where the model itself has none
  std::vector<std::pair<std::string_view, std::string_view>> merges; ///< lowest rank first
  std::vector<listed_token> added;
};

/// A Hugging Face tokenizer.json (model BPE). Immutable after loading; every call is thread safe.
/// Gives the ids and texts that the `tokenizers` package gives.
class tokenizer {
public:
  /// Parses the text of a tokenizer.json; `origin` names it in errors (tokenizer_errc).
  static caf::expected<std::shared_ptr<const tokenizer>> parse(std::string_view json,
                                                               const std::string& origin);
  /// The same where the vocabulary does not come as JSON: `json` is a tokenizer.json whose model
  /// has neither `vocab` nor `merges`, and that has no `added_tokens`.
  static caf::expected<std::shared_ptr<const tokenizer>>
  assemble(std::string_view json, const token_lists& lists, const std::string& origin);
  static caf::expected<std::shared_ptr<const tokenizer>> load(const std::filesystem::path& file);
  ~tokenizer();

  /// Text -> ids; bytes that are not UTF-8 become U+FFFD. `add_special` runs the post-processor
  /// (begin and end tokens). With `parse_special` false the text of special tokens is plain text:
  /// for input that must not be able to speak for the system.
  std::vector<token_id> encode(std::string_view text, bool add_special = true,
                               bool parse_special = true) const;
  /// Ids -> valid UTF-8; ids outside the vocabulary are skipped.
  std::string decode(std::span<const token_id> ids, bool skip_special = true) const;

  std::optional<token_id> id_of(std::string_view token) const;
  /// The raw vocabulary piece, empty when there is none.
  std::string token_text(token_id id) const;
  /// The bytes that the token stands for in the middle of a text; not always whole UTF-8.
  std::string token_bytes(token_id id) const;
  bool is_special(token_id id) const;
  size_t vocab_size() const; ///< highest id + 1

private:
  friend class stream_decoder;
  struct parts;
  explicit tokenizer(std::unique_ptr<parts> built);
  std::unique_ptr<const parts> parts_;
};

} // namespace troupe::engine
