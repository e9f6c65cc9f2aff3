#pragma once
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/tokenizer/json_fields.hpp"

namespace troupe::engine {

/// A part of the text on its way to the model. Views into the caller's text or the arena.
struct piece {
  std::string_view text;
  bool at_start = false; ///< begins where the original text begins
};
/// Owns text that steps made; a deque, so that views stay valid.
using piece_arena = std::deque<std::string>;

/// A step of tokenizer.json's `pre_tokenizer`.
class pre_tokenizer {
public:
  virtual ~pre_tokenizer() = default;
  /// Appends the parts of `whole` to `out`; empty parts are left out.
  virtual void split(piece whole, std::vector<piece>& out, piece_arena& arena) const = 0;
};

struct pre_tokenizer_chain {
  std::vector<std::unique_ptr<const pre_tokenizer>> steps;
  /// The last step maps bytes to GPT-2's alphabet. The model does that by table, so pieces stay
  /// raw.
  bool byte_level = false;
  std::vector<piece> run(piece whole, piece_arena& arena) const;
};

/// Kinds: Sequence, ByteLevel, Split, Metaspace, Whitespace, WhitespaceSplit, Digits, Punctuation.
caf::error add_pre_tokenizer(json_fields::element spec, const std::string& origin,
                             pre_tokenizer_chain& chain);

} // namespace troupe::engine
