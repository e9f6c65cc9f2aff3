#pragma once
#include <memory>
#include <string>

#include "engine/tokenizer/tokenizer.hpp"

namespace troupe::engine {

/// Detokenizes one text as its tokens arrive, at a constant cost per token. What push and flush
/// return concatenates to `decode` of all ids and is always whole UTF-8 characters. (One exception:
/// in a run of byte-fallback tokens that is not UTF-8 as a whole, its valid characters are kept,
/// where decode, which sees the run's end, gives one U+FFFD a byte.)
class stream_decoder {
public:
  /// `continues`: the text goes on from a prompt, so the space that begins a SentencePiece word is
  /// kept; otherwise it starts a text of its own.
  explicit stream_decoder(std::shared_ptr<const tokenizer> tokens, bool skip_special = true,
                          bool continues = false);
  stream_decoder(stream_decoder&&) noexcept;
  stream_decoder& operator=(stream_decoder&&) noexcept;
  ~stream_decoder();
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
