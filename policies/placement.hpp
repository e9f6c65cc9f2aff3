#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include "base/ids.hpp"
#include "base/instant.hpp"

namespace troupe::policies {

/// A worker as the scheduler numbers it; never used twice.
using worker_id = uint64_t;

/// A model on a worker, as far as making room is concerned.
struct placed_model {
  model_id model;
  uint64_t bytes = 0;
  bool pinned = false;
  bool idle = false;     ///< nothing running, ready, and not already leaving
  bool closable = false; ///< busy, but has been there long enough to have to make room
  bool leaving = false;  ///< its memory comes back by itself
  instant last_used{};
};

struct worker_space {
  worker_id worker = 0;
  uint64_t limit_bytes = 0;
  std::vector<placed_model> models;
};

/// Where a model goes and what must go away for it.
struct placement {
  worker_id worker = 0;
  std::vector<model_id> evict; ///< idle ones, least recently used first
};

/// A place for `bytes`, evicting idle models if need be: the worker where least must go, of equal
/// ones that with the most room left. Nothing if only busy or pinned models could make room.
std::optional<placement> find_place(const std::vector<worker_space>& workers, uint64_t bytes);

/// Busy models that should get no new work so that `bytes` fit once they have finished: the least
/// recently used ones, on the worker where the fewest bytes are concerned. Empty if that does not
/// help either.
std::vector<std::pair<worker_id, model_id>>
find_models_to_close(const std::vector<worker_space>& workers, uint64_t bytes);

/// The most that one worker could ever hold beside its pinned models.
uint64_t largest_space(const std::vector<worker_space>& workers);

} // namespace troupe::policies
