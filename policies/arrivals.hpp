#pragma once
#include <array>
#include <cstddef>
#include <map>
#include <vector>

#include "base/ids.hpp"
#include "base/instant.hpp"

namespace troupe::policies {

/// When models are asked for, and so when they will be asked for again: for each a histogram of the
/// pauses between its requests, as the hybrid histogram policy of Shahrad et al. ("Serverless in
/// the Wild", USENIX ATC 2020, section 4) has it, but in bins that double, from a second to twelve
/// days, and mixed with that of all models, which stands in for those that were seen seldom. Newer
/// pauses count more. `now` never goes backwards.
class arrivals {
public:
  void note(const model_id& model, instant now);

  /// That a model is asked for within `horizon`, 0..1; 0 for one that never was.
  double use_within(const model_id& model, instant now, duration horizon) const;
  /// The same for a model that was asked for `idle` ago.
  double use_within_after(const model_id& model, duration idle, duration horizon) const;
  /// How often it is expected to be asked for now, a second.
  double rate(const model_id& model, instant now) const;
  /// How long it pays to keep a model after a request, if a load takes `reload_seconds` and to hold
  /// it costs `price` of such seconds each second; a day at most.
  duration worth_keeping(const model_id& model, double reload_seconds, double price) const;
  /// Since the last request; nothing for a model that never had one.
  bool knows(const model_id& model) const { return models_.contains(model); }

private:
  static constexpr size_t bin_count = 21; ///< [0, 1 s), [1 s, 2 s), [2 s, 4 s) ...
  using histogram = std::array<double, bin_count>;
  struct history {
    instant last{};
    histogram pauses{};
    double weight = 0; ///< of all bins
  };
  histogram mixed(const history* of) const;
  static double beyond(const histogram& in, double seconds);

  std::map<model_id, history> models_;
  histogram all_{};
  double all_weight_ = 0;
};

} // namespace troupe::policies
