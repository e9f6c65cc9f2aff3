#include "tests/actors/fake_engine.hpp"

#include "engine/errors.hpp"
#include "gpu/errors.hpp"

namespace troupe::actors::testing {

namespace te = troupe::engine;

te::token_id next_token(const std::vector<te::token_id>& tokens, uint64_t seed, uint32_t offset) {
  uint64_t hash = seed * 0x9e3779b97f4a7c15ull + offset;
  for (const auto token : tokens) {
    hash = (hash ^ static_cast<uint64_t>(token)) * 0xff51afd7ed558ccdull;
    hash ^= hash >> 29;
  }
  return static_cast<te::token_id>('a' + hash % 26);
}

caf::error fake_engine::add(te::sequence_request request) {
  if (request.tokens.size() > 900)
    return caf::make_error(te::errc::invalid_argument, "longer than the KV arena");
  ledger_->held += sequences_.emplace(request.id, request).second;
  return {};
}

caf::expected<std::span<te::token_event>> fake_engine::step() {
  if (std::exchange(ledger_->broken, false))
    return caf::make_error(te::errc::bad_numbers, "the model computed NaN");
  if (std::exchange(ledger_->lost, false))
    return caf::make_error(gpu::errc::device_failed, "attention on cuda:0: out of luck");
  auto& out = events_;
  out.clear();
  if (ledger_->silent || ledger_->waits)
    return std::span{out};
  uint32_t left = sequences_max_;
  for (auto at = sequences_.begin(); at != sequences_.end() && left > 0; --left) {
    auto& x = at->second;
    te::token_event event;
    event.id = x.id;
    event.epoch = x.epoch;
    event.offset = static_cast<uint32_t>(x.tokens.size()) - x.prompt_size;
    event.token = next_token(x.tokens, x.sampling.seed, event.offset);
    if (x.sampling.top_logprobs >= 0) {
      event.logprob = -0.5f;
      event.top.push_back({event.token, -0.5f});
    }
    x.tokens.push_back(event.token);
    ++ledger_->tokens;
    if (event.offset + 1 >= x.sampling.max_tokens)
      event.finish = te::finish_reason::length;
    out.push_back(std::move(event));
    if (out.back().finish != te::finish_reason::none) {
      at = sequences_.erase(at);
      --ledger_->held;
    } else {
      ++at;
    }
  }
  return std::span{out};
}

namespace {

class fake_decoder final : public text_decoder {
public:
  std::string push(te::token_id token) override { return {static_cast<char>(token)}; }
  std::string flush() override { return {}; }
};

class fake_text final : public text_side {
public:
  caf::expected<std::vector<te::token_id>> encode(const prompt& from) const override {
    if (const auto* tokens = std::get_if<token_prompt>(&from))
      return tokens->tokens;
    if (std::holds_alternative<chat_prompt>(from))
      return caf::make_error(te::errc::unsupported, "model has no chat template");
    const auto& text = std::get<text_prompt>(from).text;
    return std::vector<te::token_id>{text.begin(), text.end()};
  }
  std::string decode(std::span<const te::token_id> tokens) const override {
    return {tokens.begin(), tokens.end()};
  }
  std::unique_ptr<text_decoder> decoder(bool) const override {
    return std::make_unique<fake_decoder>();
  }
  std::string token_bytes(te::token_id token) const override { return {static_cast<char>(token)}; }
  te::sampling_params defaults() const override { return {}; }
  caf::error check(const te::sampling_params& params) const override {
    if (params.temperature < 0)
      return caf::make_error(te::errc::invalid_argument, "temperature must be between 0 and 2");
    return {};
  }
  uint32_t context_length() const override { return 1000; }
};

} // namespace

std::shared_ptr<const text_side> make_fake_text() { return std::make_shared<fake_text>(); }

} // namespace troupe::actors::testing
