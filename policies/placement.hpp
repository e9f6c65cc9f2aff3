#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include "base/ids.hpp"
#include "base/instant.hpp"
#include "policies/footprint.hpp"

namespace troupe::policies {

/// A worker as the scheduler numbers it; never used twice.
using worker_id = uint64_t;

/// A model on a worker, as far as making room is concerned.
struct placed_model {
  model_id model;
  footprint takes;
  bool pinned = false;
  bool idle = false;     ///< nothing running, ready, and not already leaving
  bool closable = false; ///< busy, but has been there long enough to have to make room
  bool leaving = false;  ///< its memory comes back by itself
  instant last_used{};
  double reload_seconds = 0; ///< until it could run again if it went; 0 = unknown
  double use_rate = 0;       ///< how often it is expected to be used, a second; 0 = unknown
};

struct worker_space {
  worker_id worker = 0;
  uint64_t limit_bytes = 0;
  std::vector<placed_model> models;
  double load_seconds = 0; ///< until a model that is placed there could run; 0 = unknown
};

/// Where a model goes and what must go away for it.
struct placement {
  worker_id worker = 0;
  std::vector<model_id> evict; ///< idle ones, those worth least for their size first
};

/// A place for what `takes` that much, evicting idle models if need be: the worker where the model
/// runs soonest, what has to go counted by the seconds that it is expected to cost within the next
/// minute. Of equal ones (to a hundredth of a second) that where least must go, then that with the
/// most room left. A model is worth what its reload takes times how often it is used; of equal ones
/// the least recently used goes first. Nothing if only busy or pinned models could make room.
std::optional<placement> find_place(const std::vector<worker_space>& workers,
                                    const footprint& takes);

/// Busy models that should get no new work so that what `takes` that much fits once they have
/// finished: the least recently used ones, on the worker where the fewest bytes are concerned.
/// Empty if that does not help either.
std::vector<std::pair<worker_id, model_id>>
find_models_to_close(const std::vector<worker_space>& workers, const footprint& takes);

/// The most that a model with such a workspace may take in all, so that one worker could ever hold
/// it beside its pinned models.
uint64_t largest_space(const std::vector<worker_space>& workers, uint64_t workspace_bytes);

} // namespace troupe::policies
