#pragma once
#include <map>
#include <optional>

#include "actors/cluster_types.hpp"
#include "actors/request_record.hpp"
#include "policies/dispatcher.hpp"
#include "policies/place_wait.hpp"
#include "policies/prefill_cost.hpp"

namespace troupe::actors {

/// What is known of a request when its first token is to be foretold.
struct awaited_request {
  model_id model;
  double weight_bytes = 0; ///< of the model
  uint32_t prompt_tokens = 0;
  instant accepted{};
  size_t ahead = 0; ///< sequences that wait for the same model and come first
};

/// The scheduler's picture of what requests will wait for: loads under way as their workers foresee
/// them, places, prompts.
class foresight {
public:
  void load_began(const model_id& model, instant now);
  /// What the worker that loads `account.model` expects of it, from when it was told to. False if
  /// no load of it is under way.
  bool load_expected(const load_account& account);
  void load_over(const model_id& model) { loads_.erase(model); }

  void learn_prefill(const model_id& model, double weight_bytes, policies::prompt_work work,
                     double seconds);
  /// A sequence kept its place for so long.
  void learn_service(const model_id& model, duration took);

  /// Nothing as long as too little is known: a model that is not there and whose load has not begun
  /// or was not foreseen.
  std::optional<request_forecast> of(const awaited_request& request,
                                     const policies::model_view& model, instant now) const;

private:
  struct load {
    instant began{};
    std::optional<load_account> expected;
  };
  std::map<model_id, load> loads_;
  policies::prefill_cost prefill_;
  std::map<model_id, policies::service_time> services_;
};

/// The slowest place that bytes come from, in a word.
std::string_view state_of(const policies::tier_bytes& bytes);

} // namespace troupe::actors
