#include "actors/generation.hpp"

namespace troupe::actors {

generation::generation(const text_side& text, uint32_t index, bool continues,
                       std::vector<std::string> stops, bool logprobs)
    : text_{&text}, index_{index}, logprobs_{logprobs}, stops_{std::move(stops)},
      decoder_{text.decoder(continues)} {}

std::optional<text_piece> generation::accept(const engine::token_event& event) {
  if (finish_ != engine::finish_reason::none || !gate_.accepts(event.epoch, event.offset))
    return std::nullopt;
  gate_.advance();
  tokens_.push_back(event.token);
  text_piece out{.choice = index_, .text = {}, .logprobs = {}};
  const bool end_token = event.finish == engine::finish_reason::stop;
  if (!end_token) {
    auto text = decoder_->push(event.token);
    const auto begin = decoded_size_;
    decoded_size_ += text.size();
    out.text = stops_.push(text);
    if (logprobs_)
      held_.push_back({describe(event, std::move(text)), begin, decoded_size_});
  }
  if (!stops_.stopped() && event.finish != engine::finish_reason::none) {
    const auto rest = decoder_->flush();
    decoded_size_ += rest.size();
    out.text += stops_.push(rest);
    if (!stops_.stopped())
      out.text += stops_.flush();
  }
  sent_size_ += out.text.size();
  finish_ = stops_.stopped() ? engine::finish_reason::stop : event.finish;
  release_logprobs(out);
  return out;
}

piece_logprob generation::describe(const engine::token_event& event, std::string text) const {
  piece_logprob out{
      event.token, std::move(text), text_->token_bytes(event.token), event.logprob, {}};
  for (const auto& x : event.top)
    out.top.push_back({text_->decode({&x.token, 1}), text_->token_bytes(x.token), x.logprob});
  return out;
}

void generation::release_logprobs(text_piece& out) {
  // A token that a stop string cut away has no place in the answer; neither has its logprob.
  const bool ended = finish_ != engine::finish_reason::none;
  while (!held_.empty()) {
    const auto& x = held_.front();
    const bool begun = x.begin < sent_size_ || (x.begin == x.end && x.begin <= sent_size_);
    if (x.end > sent_size_ && !(ended && begun))
      break;
    out.logprobs.push_back(std::move(held_.front().entry));
    held_.pop_front();
  }
}

} // namespace troupe::actors
