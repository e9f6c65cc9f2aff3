#pragma once
#include <list>
#include <memory>
#include <vector>

#include "engine/batch/guesser.hpp"
#include "engine/kv/block_pool.hpp"
#include "engine/model/graph.hpp"
#include "engine/sampler/row_chooser.hpp"

namespace troupe::engine {

/// A smaller model that guesses for a large one (speculative decoding: Leviathan et al., arXiv
/// 2211.17192). It draws with the sequence's own settings and seed, so that where the two models
/// agree on what is likely they mostly draw the same token, at any temperature.
///
/// Keeps its own keys and values of the sequences that it was asked about. A sequence that it does
/// not know yet is computed in chunks of `chunk_rows`, one for each call, and has no guesses until
/// it is done. When blocks run out, the sequence that was not asked about for longest is forgotten.
class draft_model final : public guesser, private kv_borrower {
public:
  /// Rows for sequences that are not known yet, in one call.
  static constexpr uint32_t chunk_rows = 256;

  /// For a model of `vocabulary` tokens whose engine has `options`. `device` must outlive it.
  /// Vocabularies need not be of one size: tokens that only one of the two has are not guessed.
  static caf::expected<std::unique_ptr<draft_model>> create(const draft_source& source,
                                                            gpu::device& device, int64_t vocabulary,
                                                            const engine_options& options,
                                                            device_share share);
  /// What `create` would take; see `troupe::engine::estimate_memory`.
  static engine_memory estimate_memory(const model_config& config, uint64_t weight_bytes,
                                       const engine_options& options, const gpu::device* device);

  void guess(std::span<const guess_wish> wishes) override;
  double pass_ms() const override { return pass_ms_; }
  /// The device's failure during the last calls, if any.
  caf::error take_failure() { return std::exchange(failure_, {}); }
  /// The sequence is over; unknown ids are ignored.
  void forget(sequence_id id);
  engine_memory memory() const;
  weight_state weights() const { return parts_.weights->state(); }
  bool is_lent() const { return parts_.weights->is_lent(); }

private:
  /// What is known of one sequence.
  struct mirror {
    sequence_id id;
    sampling_params sampling; ///< of the sequence, without logprobs
    uint64_t salt = 0;
    std::vector<token_id> tokens; ///< whose keys and values are in `blocks`
    std::vector<int32_t> blocks;
    size_t remembered = 0; ///< blocks that are known to the pool: nothing writes to them
    const guess_wish* wish = nullptr;
    uint32_t rows = 0; ///< of the pass being made
  };
  struct parts {
    model_config config;
    std::shared_ptr<const void> keep_alive;
    std::unique_ptr<model_weights> weights;
    std::unique_ptr<graph> forward;
    kv_arena kv;
    row_chooser choices;
    uint32_t sequences_max = 0;
    bool reuse_prefixes = true;
    std::function<instant()> clock;
  };
  explicit draft_model(parts built);

  policies::kv_holding holding() const override;
  void give_up_spare() override { blocks_.give_up_spare(); }
  void push_out() override;
  void moved(int32_t slot, int32_t first) override { parts_.kv.moved(slot, first); }

  mirror& mirror_of(const guess_wish& wish);
  void restart(mirror& one);
  void follow(mirror& one);
  token_id token_at(const mirror& one, size_t position) const;
  size_t missing(const mirror& one) const;
  bool plan_pass(mirror& one, uint32_t rows);
  bool take_blocks(int32_t count, mirror& one);
  bool drop_oldest();
  void run_pass();
  void add_guesses();
  instant now() const { return parts_.clock ? parts_.clock() : instant{}; }

  parts parts_;
  block_pool blocks_;
  std::list<mirror> mirrors_; ///< those asked about most recently first
  forward_batch batch_;
  caf::error failure_;
  double pass_ms_ = 0;
};

} // namespace troupe::engine
