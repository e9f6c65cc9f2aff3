#pragma once
#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

#include "base/error.hpp"

namespace troupe::storage {

/// A model on this machine's disk, and what it takes.
struct stored_model {
  std::string name;
  std::string source;         ///< the reference it came from
  std::filesystem::path dir;  ///< of the store, or the hub cache's repository
  uint64_t disk_bytes = 0;    ///< blocks that are in use, each file counted once
  uint64_t partial_bytes = 0; ///< of those, of downloads that are not finished
  bool complete = false;      ///< a catalog lists it
  bool in_use = false;        ///< by a server, or a download that runs
};

/// The models that Troupe can remove: those of its store and of the hub cache, by name.
std::vector<stored_model> stored_models(const std::filesystem::path& store,
                                        const std::filesystem::path& hub_cache);

/// Removes `model`, of `revision` alone if it is not empty (a hub's branch, tag or commit): then
/// blobs stay that another snapshot links. Fails with `in_use` if a server or a download has it,
/// unless `force`. Returns the bytes that it freed.
caf::expected<uint64_t> remove_model(const stored_model& model, const std::string& revision,
                                     bool force);

} // namespace troupe::storage
