#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "actors/checkpoint_loader.hpp"
#include "actors/peer_plane.hpp"
#include "engine/engine.hpp"
#include "storage/pipeline/weight_tiers.hpp"

namespace troupe::actors {

struct storage_options;

/// The pool and what loads into it; null if there is to be none: weights are mapped then. If it
/// cannot be had (another process has it), a line in the log says why, and a small private one
/// takes its place, so that weights are mapped, but verified.
std::shared_ptr<storage::weight_tiers> open_tiers(const storage_options& options);

/// Has at most `bytes_max` bytes of the pool pinned, in the background, if `device` reads pinned
/// memory by itself: false if not. A line in the log says so when the machine pins no more.
bool pin_pool(storage::weight_tiers& tiers, gpu::device& device, uint64_t bytes_max);

/// How an engine reads a checkpoint whose tensors have names or forms of their own.
struct weight_form {
  /// A lookup by Hugging Face names over one by the checkpoint's own. May look into tensors.
  std::function<caf::expected<engine::weight_lookup>(engine::weight_lookup)> wrap;
  /// The checkpoint's tensors, in the order in which they are needed.
  std::vector<std::string> names;
  /// Tensors are read from front to back, so that what was read can go at once.
  bool in_order = true;
};

/// Weights of one checkpoint as an engine takes them.
struct opened_weights {
  engine::weight_lookup lookup;
  std::string checkpoint{}; ///< as in `opened_model`
  std::shared_ptr<const void> keep_alive{};
  uint64_t total_bytes = 0; ///< that come
  // As in `opened_model`.
  std::function<void(const open_progress&)> follow{};
  std::function<policies::tier_bytes()> whence{};
};

/// Begins to load weights into the host pool, in the order in which the engine uses them. None if
/// the mapped files are the better way. Blocks only while `form` looks into tensors. `arriving` has
/// the files that are still on their way, or is null; `found` says where weights come from besides
/// the files.
caf::expected<std::optional<opened_weights>>
open_pooled(const std::shared_ptr<storage::weight_tiers>& tiers,
            const std::shared_ptr<const storage::checkpoint>& files, const weight_form& form,
            const std::shared_ptr<const storage::arriving_model>& arriving = {},
            const found_model& found = {});

} // namespace troupe::actors
