#pragma once
#include <span>
#include <string>
#include <string_view>

namespace troupe::engine {

/// How texts are cut into words before byte-level BPE, as `tokenizer.ggml.pre` names it. The
/// patterns are those of the tokenizer.json files that the names were given to.
struct pre_tokenizer_kind {
  std::string_view name;
  /// One after the other, each on what the one before left; none = GPT-2's own.
  std::span<const std::string_view> patterns;
  bool single_digits = false; ///< every digit alone, before anything else
  bool then_gpt2 = false;     ///< and GPT-2's own at the end
  bool whole_words = false;   ///< a word that is a token is not merged from parts
  bool begins_text = false;   ///< a begin token goes before a text unless the file says otherwise
  bool composes = false;      ///< NFC first
};

/// Null for a name that is not known.
const pre_tokenizer_kind* find_pre_tokenizer(std::string_view name);

/// All known names, divided by commas.
std::string pre_tokenizer_names();

} // namespace troupe::engine
