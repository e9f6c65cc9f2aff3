#include "actors/text_side.hpp"
#include "engine/frontend/frontend.hpp"
#include "engine/tokenizer/stream_decoder.hpp"

namespace troupe::actors {

namespace {

class frontend_decoder final : public text_decoder {
public:
  frontend_decoder(std::shared_ptr<const engine::tokenizer> tokens, bool continues)
      : decoder_{std::move(tokens), true, continues} {}
  std::string push(engine::token_id token) override { return decoder_.push(token); }
  std::string flush() override { return decoder_.flush(); }

private:
  engine::stream_decoder decoder_;
};

class frontend_text final : public text_side {
public:
  frontend_text(std::shared_ptr<const engine::frontend> from, uint32_t context_max)
      : from_{std::move(from)}, context_length_{from_->context_length} {
    if (context_max != 0)
      context_length_ = std::min(context_length_, context_max);
  }
  caf::expected<std::vector<engine::token_id>> encode(const prompt& from) const override {
    if (const auto* chat = std::get_if<chat_prompt>(&from))
      return from_->encode_chat(chat->messages, chat->extra);
    if (const auto* text = std::get_if<text_prompt>(&from))
      return from_->tokens->encode(text->text, true);
    return std::get<token_prompt>(from).tokens;
  }
  std::string decode(std::span<const engine::token_id> tokens) const override {
    return from_->tokens->decode(tokens);
  }
  std::unique_ptr<text_decoder> decoder(bool continues) const override {
    return std::make_unique<frontend_decoder>(from_->tokens, continues);
  }
  std::string token_bytes(engine::token_id token) const override {
    return from_->tokens->token_bytes(token);
  }
  engine::sampling_params defaults() const override {
    return engine::default_sampling(from_->defaults);
  }
  caf::error check(const engine::sampling_params& params) const override {
    return engine::validate(params, static_cast<int32_t>(from_->config.vocab_size));
  }
  uint32_t context_length() const override { return context_length_; }

private:
  std::shared_ptr<const engine::frontend> from_;
  uint32_t context_length_;
};

} // namespace

std::shared_ptr<const text_side> make_text_side(std::shared_ptr<const engine::frontend> from,
                                                uint32_t context_max) {
  return std::make_shared<frontend_text>(std::move(from), context_max);
}

} // namespace troupe::actors
