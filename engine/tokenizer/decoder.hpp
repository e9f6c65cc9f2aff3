#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/tokenizer/json_fields.hpp"
#include "engine/tokenizer/regex.hpp"
#include "engine/tokenizer/utf8.hpp"

namespace troupe::engine {

/// tokenizer.json's `decoder`: vocabulary pieces -> text. Kinds: Sequence, ByteLevel, Metaspace,
/// ByteFallback, Fuse, Strip, Replace. Immutable; the state of one text lives in `state`.
class decoder {
public:
  /// No spec (a null decoder) joins the pieces with spaces, as the `tokenizers` package does.
  static caf::expected<decoder> make(std::optional<json_fields::element> spec,
                                     const std::string& origin);

  /// One text on its way out.
  struct state {
    bool first = true;     ///< no piece was decoded yet
    size_t strip_left = 0; ///< characters that may still be stripped from the text's start
    std::string run;       ///< pieces of byte fallback that wait for their character
    utf8::assembler assembler;
  };
  state start() const;
  /// A state for text that continues an earlier one: nothing at its start is special.
  state resume() const;

  /// Appends what piece `token` adds. Output is whole UTF-8 characters; bytes that may still become
  /// one are held back. `eager` emits whole characters inside a run of fallback bytes at once;
  /// otherwise the run is judged as a whole when it ends, as the package's decode does.
  void push(std::string_view token, state& state, std::string& out, bool eager) const;
  void flush(state& state, std::string& out) const;

  /// The bytes that `token` stands for in the middle of a text.
  std::string bytes_of(std::string_view token) const;

private:
  enum class kind : uint8_t { metaspace, strip, replace };
  struct step {
    kind what;
    std::optional<regex> pattern; // replace
    std::string content;          // replace, strip, metaspace (the mark)
    size_t left = 0, right = 0;   // strip
    bool drops_first = false;     // metaspace
  };
  caf::error add(json_fields::element spec, const std::string& origin);
  caf::error add_replace(json_fields::element spec, const std::string& origin);
  std::string apply_piece_steps(std::string_view token, bool first) const;
  void emit(std::string_view text, state& state, std::string& out) const;
  void end_run(state& state, std::string& out) const;

  std::vector<step> piece_steps_; // before Fuse: on each piece
  std::vector<step> text_steps_;  // behind Fuse: on the whole text
  bool byte_level_ = false, byte_fallback_ = false, fused_ = false, spaced_ = false;
};

} // namespace troupe::engine
