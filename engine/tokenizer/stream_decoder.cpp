#include "engine/tokenizer/stream_decoder.hpp"

#include <algorithm>

#include "engine/tokenizer/tokenizer_parts.hpp"

namespace troupe::engine {

struct stream_decoder::state {
  decoder::state decoding;
};

stream_decoder::stream_decoder(std::shared_ptr<const tokenizer> tokens, bool skip_special,
                               bool continues)
    : tokens_{std::move(tokens)}, state_{std::make_unique<state>()}, skip_special_{skip_special} {
  const auto& decoder = tokens_->parts_->decode;
  state_->decoding = continues ? decoder.resume() : decoder.start();
}
stream_decoder::stream_decoder(stream_decoder&&) noexcept = default;
stream_decoder& stream_decoder::operator=(stream_decoder&&) noexcept = default;
stream_decoder::~stream_decoder() = default;

void stream_decoder::prime(std::span<const token_id> context) {
  const auto& parts = *tokens_->parts_;
  const auto shows = [&](token_id id) {
    return (!skip_special_ || !parts.is_special(id)) && parts.piece_of(id);
  };
  // Only an unfinished character reaches across tokens, and it has three bytes at most.
  constexpr size_t tail_max = 4;
  size_t begin = context.size();
  for (size_t shown = 0; begin > 0 && shown < tail_max;)
    shown += shows(context[--begin]);
  if (std::any_of(context.begin(), context.begin() + static_cast<ptrdiff_t>(begin), shows))
    state_->decoding = parts.decode.resume();
  for (const auto id : context.subspan(begin))
    push(id);
}

std::string stream_decoder::push(token_id id) {
  std::string out;
  const auto& parts = *tokens_->parts_;
  if (skip_special_ && parts.is_special(id))
    return out;
  if (const auto piece = parts.piece_of(id))
    parts.decode.push(*piece, state_->decoding, out, true);
  return out;
}

std::string stream_decoder::flush() {
  std::string out;
  tokens_->parts_->decode.flush(state_->decoding, out);
  return out;
}

} // namespace troupe::engine
