#pragma once
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "engine/batch/draft_model.hpp"
#include "engine/batch/step_planner.hpp"
#include "engine/engine.hpp"
#include "engine/model/graph.hpp"
#include "engine/sampler/row_chooser.hpp"

namespace troupe::engine {

/// The engine over one device: a planner decides the rows, the graph computes them, the
/// chooser chooses tokens.
class paged_engine final : public engine, private kv_borrower {
public:
  struct parts {
    model_config config;
    std::shared_ptr<const void> keep_alive;
    std::unique_ptr<model_weights> weights;
    std::unique_ptr<graph> forward;
    kv_arena kv;
    row_chooser choices;
    step_limits limits;
    uint32_t context = 0;
    uint32_t waiting_max = 0;
    std::function<instant()> clock;     ///< or none
    std::unique_ptr<std::byte[]> swap;  ///< [swap_slots, block_bytes]
    std::unique_ptr<draft_model> draft; ///< or none: guesses are looked up
    bool waits = true; ///< for weights, within a step: nobody would hear when they are there
  };
  explicit paged_engine(parts built);

  weight_state weights() const override;
  bool is_lent() const override {
    return parts_.weights->is_lent() || (parts_.draft && parts_.draft->is_lent());
  }
  std::optional<held_step> held() const override;
  caf::error add(sequence_request request) override;
  void cancel(sequence_id id) override;
  caf::expected<std::span<token_event>> step() override;
  std::vector<sequence_failure> take_failures() override { return std::exchange(failures_, {}); }
  bool idle() const override { return planner_.running().empty() && planner_.waiting().empty(); }
  uint32_t running() const override { return static_cast<uint32_t>(planner_.running().size()); }
  uint32_t waiting() const override { return static_cast<uint32_t>(planner_.waiting().size()); }
  uint32_t room() const override;
  double kv_usage() const override;
  uint32_t context_length() const override { return parts_.context; }
  engine_memory memory() const override;
  engine_counters counters() const override;

private:
  policies::kv_holding holding() const override;
  void give_up_spare() override { planner_.give_up_spare(); }
  void push_out() override;
  void moved(int32_t slot, int32_t first) override;
  caf::expected<bool> begin_step();
  void build_batch();
  void plan_choices(const sequence& one);
  caf::error move_blocks();
  void retire(std::list<sequence>::iterator one);
  void finish_rows();
  instant now() const { return parts_.clock ? parts_.clock() : instant{}; }
  caf::error check(const sequence_request& request) const;
  caf::error choose(sequence& one, size_t row);
  caf::error settle(sequence& one, size_t row);
  finish_reason finish_of(const sequence& one, token_id token) const;

  parts parts_;
  step_planner planner_;
  forward_batch batch_;
  std::vector<token_event> events_;
  std::vector<sequence_failure> failures_;
  engine_counters counters_;
  // The step that was begun:
  bool is_held_ = false; ///< it waits for weights
  bool replan_ = false;  ///< sequences or blocks came or went since
  caf::error failure_;   ///< of the device, between steps
  bool weights_lacked_ = false;
  instant step_begun_{};
  policies::step_shape step_shape_;
};

} // namespace troupe::engine
