#pragma once
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "storage/model_dir.hpp"
#include "storage/sources/group_source.hpp"
#include "storage/sources/http.hpp"
#include "storage/sources/location.hpp"
#include "storage/sources/retry.hpp"
#include "storage/store/arrival.hpp"

namespace troupe::storage {

/// How this node fetches models, and where to.
struct pull_setup {
  std::filesystem::path store_dir; ///< models of all sources but hubs
  std::filesystem::path hub_cache; ///< those of hubs, in the cache's own layout
  unsigned connections = 8;        ///< parts that are fetched at once
  uint64_t part_bytes = uint64_t{16} << 20;
  retry_plan retries; ///< empty = nothing is tried twice
  /// Sources with credentials, by the text of their location. Those are written down nowhere, so
  /// whoever fetches from there again later has to be told.
  std::map<std::string, location> known{};
  /// Told of what a user should know though the fetch goes on; on any thread.
  std::function<void(const std::string&)> warn{};
  std::shared_ptr<http_client> over;
};

struct pull_request {
  location from;
  std::string name;    ///< in the store; empty = the location's
  std::string include; ///< glob of the weights, see `files_to_serve`
  bool weights = true; ///< false: configuration and tokenizer alone
  /// More places that hold the same files: all are drawn on at once (see mirror_source.hpp).
  std::vector<location> mirrors{};
  /// The same, but no places that a user named: other nodes, of which there may be more or fewer
  /// the next time.
  std::vector<std::shared_ptr<source>> beside{};
  /// Nodes that fetch the same model at the same time.
  fetch_group together{};
  /// Told of the weights that will be fetched, but of those without a `common_version`, before they
  /// are.
  std::function<void(const std::vector<coming_file>&)> coming{};
};

/// Where a model comes from, as one text: references, one on each line, the mirrors last.
struct model_origin {
  location from;
  std::vector<location> mirrors;
};
caf::expected<model_origin> parse_origin(std::string_view text);
std::string to_string(const model_origin& origin); ///< with credentials: not to be shown

/// What `name` says of each place, in order, with `between` between them.
template <class Name>
std::string joined(const model_origin& origin, std::string_view between, const Name& name) {
  std::string out = name(origin.from);
  for (const auto& one : origin.mirrors)
    out.append(between).append(name(one));
  return out;
}

struct file_progress {
  std::string path;
  uint64_t size_bytes = 0;
  uint64_t done_bytes = 0;
  bool done = false;
};

struct pull_progress {
  std::string phase; ///< "looking up", "downloading", "finishing"
  uint64_t total_bytes = 0;
  uint64_t done_bytes = 0;    ///< what was there already included
  uint64_t fetched_bytes = 0; ///< over the network, by this call
  std::vector<file_progress> files;
};

/// Called at most every 50 ms or when a file is done, by one thread at a time.
using pull_observer = std::function<void(const pull_progress&)>;

struct pulled_model {
  std::string name;
  std::filesystem::path dir;
  /// What opens it: the directory, or its GGUF file. Of a GGUF model without its weights, files
  /// elsewhere that have its heads in them, and holes.
  std::filesystem::path path{};
  uint64_t total_bytes = 0;   ///< of the files that were wanted
  uint64_t weight_bytes = 0;  ///< of the weights, whether wanted or not
  uint64_t fetched_bytes = 0; ///< 0 if everything was there
  size_t files = 0;
  /// What came from where, if from several places.
  std::vector<std::pair<std::string, uint64_t>> shares{};
};

/// Called once, on another thread than the caller's of `pull` and before that returns, when the
/// small files of a model are here and the heads of its weights are: from then on it can be opened.
/// Not called if there is nothing left to fetch, or if the heads make no sense.
using early_opening = std::function<void(std::shared_ptr<const arriving_model>)>;

/// Brings the files of a model to this machine, several parts at a time, and publishes them
/// together. Blocks. Takes up what an earlier call left; of several calls, also in other processes,
/// each file is fetched by one only. A failure says what was fetched, from where, what happened and
/// what to do, and leaves no model but what is needed to go on. A location of this machine is used
/// where it is.
caf::expected<pulled_model> pull(const pull_request& what, const pull_setup& how,
                                 const pull_observer& observer, std::stop_token stop,
                                 const early_opening& early = {});

/// The model if it is complete on this machine: nothing is asked of the network. Else no path.
sole_model find_pulled(const pull_request& what, const pull_setup& how);

} // namespace troupe::storage
