#pragma once
#include <filesystem>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

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
  std::shared_ptr<http_client> over;
};

struct pull_request {
  location from;
  std::string name;    ///< in the store; empty = the location's
  std::string include; ///< glob of the weights, see `files_to_serve`
  bool weights = true; ///< false: configuration and tokenizer alone
};

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
  uint64_t total_bytes = 0;   ///< of the files that were wanted
  uint64_t weight_bytes = 0;  ///< of the weights, whether wanted or not
  uint64_t fetched_bytes = 0; ///< 0 if everything was there
  size_t files = 0;
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

/// The model's directory if it is complete on this machine: nothing is asked of the network.
std::filesystem::path find_pulled(const pull_request& what, const pull_setup& how);

} // namespace troupe::storage
