#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "actors/request.hpp"

/// The parts of responses that streamed and whole ones share.
namespace troupe::gateway {

/// What every body of one answer says alike.
struct answer_identity {
  bool chat = true;
  std::string id;      ///< "chatcmpl-..." or "cmpl-..."
  std::string model;   ///< as the client named it
  int64_t created = 0; ///< Unix time
};
answer_identity make_identity(bool chat, std::string model);

/// `"stop"`, `"length"` or `null`.
std::string_view finish_text(engine::finish_reason reason);

/// `{"prompt_tokens":...}`
void append_usage(std::string& out, const actors::usage& used);

/// Items of a chat choice's `logprobs.content`, comma separated.
void append_chat_logprobs(std::string& out, const std::vector<actors::piece_logprob>& logprobs);

/// Where the tokens of a completion choice begin in its text, counted in characters.
class text_offsets {
public:
  /// Offsets of the piece's tokens.
  std::vector<uint64_t> next(const actors::text_piece& piece);

private:
  uint64_t at_ = 0;
  bool seen_tokens_ = false;
};

/// The four parallel lists of a completion choice's `logprobs`, built piece by piece.
class completion_logprobs {
public:
  void add(const actors::text_piece& piece, text_offsets& offsets);
  bool empty() const { return tokens_.empty(); }
  /// `{"tokens":[...],"token_logprobs":[...],"top_logprobs":[...],"text_offset":[...]}`
  void append_to(std::string& out) const;

private:
  std::string tokens_, token_logprobs_, top_logprobs_, text_offset_;
};

} // namespace troupe::gateway
