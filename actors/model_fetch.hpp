#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "actors/messages.hpp"
#include "storage/sources/group_source.hpp"
#include "storage/store/arrival.hpp"

namespace troupe::storage {
class model_fetcher;
class weight_tiers;
} // namespace troupe::storage

namespace troupe::actors {

/// What a fetch tells, on other threads than its caller's; what is not set is not told.
struct fetch_events {
  std::function<void(uint64_t done, uint64_t total)> progress{};
  /// Enough is here for the model to be opened; at most once.
  std::function<void(std::shared_ptr<const storage::arriving_model>)> early{};
  /// Other nodes that may have the same files.
  std::vector<std::shared_ptr<storage::source>> beside{};
  /// Other nodes that fetch them at the same time.
  storage::fetch_group together{};
  /// Weights are on their way; at most once.
  std::function<void(const std::vector<storage::coming_file>&)> coming{};
  /// All is here, or will not come; last and once.
  std::function<void(caf::expected<fetched_files>)> then;
};

/// Brings the files that `origin` names to this machine, as the model `name`, with its weights or
/// without; returns at once.
using model_fetch = std::function<void(const std::string& origin, const std::string& name,
                                       bool weights, fetch_events events)>;

/// By `fetcher`; null = every fetch fails, as this node was given no way to fetch.
model_fetch make_model_fetch(std::shared_ptr<storage::model_fetcher> fetcher);

/// Fetches what is damaged of a model in `dir` anew, as `storage::mend` does; returns at once.
using model_mend = std::function<void(const std::string& dir, fetch_events events)>;
/// Without a fetcher or tiers nothing can be mended.
model_mend make_model_mend(std::shared_ptr<storage::model_fetcher> fetcher,
                           std::shared_ptr<storage::weight_tiers> tiers);

/// Where the model `name` from `origin` lies if all of it is on this machine, else empty. Asks
/// nothing of the network; reads directories.
using model_find = std::function<std::string(const std::string& origin, const std::string& name)>;
model_find make_model_find(std::shared_ptr<storage::model_fetcher> fetcher);

} // namespace troupe::actors
