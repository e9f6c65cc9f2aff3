#pragma once
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "actors/request.hpp"
#include "actors/text_side.hpp"
#include "policies/stop_matcher.hpp"
#include "policies/token_gate.hpp"

namespace troupe::actors {

/// One choice of a request: its tokens so far and the text that became final of them.
class generation {
public:
  /// `text` must outlive it.
  generation(const text_side& text, uint32_t index, bool continues, std::vector<std::string> stops,
             bool logprobs);

  /// A token that is not the next one of the current dispatch is dropped and gives nothing.
  /// Otherwise the text (and logprobs) that are final now; possibly none.
  std::optional<text_piece> accept(const engine::token_event& event);
  /// Starts a new dispatch and returns its epoch.
  uint32_t reopen() { return gate_.reopen(); }

  /// Too many dispatches brought no token.
  bool hopeless() const { return gate_.hopeless(); }

  uint32_t epoch() const { return gate_.epoch(); }
  const std::vector<engine::token_id>& tokens() const { return tokens_; }
  /// Not `none` once the choice has ended.
  engine::finish_reason finish() const { return finish_; }

private:
  /// A logprob is sent with the text that its token has become part of.
  struct held_logprob {
    piece_logprob entry;
    size_t begin = 0, end = 0; // in the decoded text
  };
  piece_logprob describe(const engine::token_event& event, std::string text) const;
  void release_logprobs(text_piece& out);

  const text_side* text_;
  uint32_t index_;
  bool logprobs_;
  policies::token_gate gate_;
  policies::stop_matcher stops_;
  std::unique_ptr<text_decoder> decoder_;
  std::vector<engine::token_id> tokens_;
  std::deque<held_logprob> held_;
  size_t decoded_size_ = 0, sent_size_ = 0;
  engine::finish_reason finish_ = engine::finish_reason::none;
};

} // namespace troupe::actors
