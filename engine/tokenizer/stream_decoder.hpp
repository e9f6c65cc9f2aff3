#pragma once
#include <memory>
#include <span>
#include <string>

#include "engine/tokenizer/tokenizer.hpp"

namespace troupe::engine {

/// Detokenizes one text as its tokens arrive, at a constant cost per token. What push and flush
/// return concatenates to `decode` of all ids and is always whole UTF-8 characters. (One exception:
/// in a run of byte-fallback tokens that is not UTF-8 as a whole, its valid characters are kept,
/// where decode, which sees the run's end, gives one U+FFFD a byte.)
class stream_decoder {
public:
  /// `continues`: the text goes on from some other text, so the space that begins a SentencePiece
  /// word is kept; otherwise it starts a text of its own. `prime` says the same with the tokens.
  explicit stream_decoder(std::shared_ptr<const tokenizer> tokens, bool skip_special = true,
                          bool continues = false);
  stream_decoder(stream_decoder&&) noexcept;
  stream_decoder& operator=(stream_decoder&&) noexcept;
  ~stream_decoder();
  /// Before the first push: the text continues the text of `context` (a prompt). Its first word
  /// keeps its space unless the context is empty or shows nothing (special tokens alone), and a
  /// character that the context leaves unfinished is finished. Costs nothing for long contexts.
  void prime(std::span<const token_id> context);
  std::string push(token_id id);
  /// What was held back; the decoder is at its end then.
  std::string flush();

private:
  struct state;
  std::shared_ptr<const tokenizer> tokens_;
  std::unique_ptr<state> state_;
  bool skip_special_;
};

} // namespace troupe::engine
