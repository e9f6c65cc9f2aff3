#pragma once
#include <memory>
#include <string>
#include <vector>

#include "actors/checkpoint_loader.hpp"
#include "engine/model/model_config.hpp"
#include "storage/pipeline/weight_tiers.hpp"

namespace troupe::actors {

struct storage_options;

/// The pool and what loads into it; null if there is to be none: weights are mapped then. If it
/// cannot be had (another process has it), a line in the log says why, and a small private one
/// takes its place, so that weights are mapped, but verified.
std::shared_ptr<storage::weight_tiers> open_tiers(const storage_options& options);

/// The tensors that an engine binds, in its order; none if it has to read these files through maps
/// (GGUF, packed weights: other names, or other forms).
std::vector<std::string> pooled_names(const storage::checkpoint& files,
                                      const engine::model_config& config);

/// Loads a model's weights into the host pool, in the order in which the engine uses them, and
/// fills `out` (lookup, keep_alive, gate) with them. Returns before the last ones are there, if an
/// engine can start by then: see `opened_model::arriving`. False if the mapped files are the better
/// way. Blocks; `progress` as in `checkpoint::warm`.
caf::expected<bool> open_pooled(const std::shared_ptr<storage::weight_tiers>& tiers,
                                const std::shared_ptr<const storage::checkpoint>& files,
                                const engine::model_config& config, const open_progress& progress,
                                opened_model& out);

} // namespace troupe::actors
