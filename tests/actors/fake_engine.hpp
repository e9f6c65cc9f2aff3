#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "actors/text_side.hpp"
#include "engine/engine.hpp"

namespace troupe::actors::testing {

/// What all fake engines of a test share.
struct engine_ledger {
  size_t tokens = 0;
  size_t held = 0;
  bool broken = false; ///< the next step fails
  bool lost = false;   ///< the next step fails because the device does
  bool silent = false; ///< steps give no tokens, as if they computed a long prompt
  std::optional<troupe::engine::held_step> waits = {}; ///< a step does, for weights
  troupe::engine::weight_state weights = {};           ///< of engines whose weights arrive
  std::function<void()> news = {};                     ///< the newest engine's `on_weights`
  bool lent = false;                                   ///< another device copies the weights
  bool twin_gone = false;                              ///< they cannot come from another device
};

/// The fixture's model: the next token of a text, any of 'a' to 'z'.
engine::token_id next_token(const std::vector<engine::token_id>& tokens, uint64_t seed,
                            uint32_t offset);

/// One token per sequence and step, first come first served.
class fake_engine final : public engine::engine {
public:
  fake_engine(uint32_t sequences_max, uint64_t bytes, std::shared_ptr<engine_ledger> ledger)
      : sequences_max_{sequences_max}, bytes_{bytes}, ledger_{std::move(ledger)} {}
  ~fake_engine() override { ledger_->held -= sequences_.size(); }
  caf::error add(troupe::engine::sequence_request request) override;
  void cancel(sequence_id id) override { ledger_->held -= sequences_.erase(id); }
  caf::expected<std::span<troupe::engine::token_event>> step() override;
  bool idle() const override { return sequences_.empty(); }
  uint32_t running() const override { return std::min<uint32_t>(sequences_max_, size()); }
  uint32_t waiting() const override { return size() - running(); }
  uint32_t room() const override { return sequences_max_ - running(); }
  double kv_usage() const override { return static_cast<double>(running()) / sequences_max_; }
  uint32_t context_length() const override { return 1000; }
  troupe::engine::engine_memory memory() const override { return {bytes_, 0, 0}; }
  troupe::engine::weight_state weights() const override { return ledger_->weights; }
  bool is_lent() const override { return ledger_->lent; }
  std::optional<troupe::engine::held_step> held() const override { return ledger_->waits; }

private:
  uint32_t size() const { return static_cast<uint32_t>(sequences_.size()); }
  uint32_t sequences_max_;
  uint64_t bytes_;
  std::shared_ptr<engine_ledger> ledger_;
  std::map<sequence_id, troupe::engine::sequence_request> sequences_;
  std::vector<troupe::engine::token_event> events_;
};

/// Tokens are the bytes of the text; context length 1000. "refuse me" cannot be encoded.
std::shared_ptr<const text_side> make_fake_text();

} // namespace troupe::actors::testing
