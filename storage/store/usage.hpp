#pragma once
#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "storage/gguf_choice.hpp"

namespace troupe::storage {

/// One of the GGUF models that a repository, or a directory of the store, holds.
struct stored_gguf {
  std::string name;        ///< as a catalog has it: below the repository's, "stories-Q4_K_M"
  std::string file;        ///< its path there, the first if there are several
  uint64_t disk_bytes = 0; ///< what goes with it
};

/// A model on this machine's disk, and what it takes.
struct stored_model {
  std::string name;
  std::string source;               ///< the reference it came from
  std::filesystem::path dir;        ///< of the store, or the hub cache's repository
  uint64_t disk_bytes = 0;          ///< blocks that are in use, each file counted once
  uint64_t partial_bytes = 0;       ///< of those, of downloads that are not finished
  bool complete = false;            ///< a catalog lists it
  bool in_use = false;              ///< by a server, or a download that runs
  std::vector<stored_gguf> ggufs{}; ///< by name; of all snapshots of a hub's
};

/// The models that Troupe can remove: those of its store and of the hub cache, by name.
std::vector<stored_model> stored_models(const std::filesystem::path& store,
                                        const std::filesystem::path& hub_cache);

/// What of a stored model is to go, and how.
struct removal {
  std::string revision{}; ///< a hub's branch, tag or commit; empty = all
  gguf_choice gguf{};     ///< one of its GGUF models; empty = all
  bool force = false;     ///< also while it is in use
};

/// Removes `model`, or a part of it. Blobs stay that another snapshot links; the small files that
/// GGUF models share stay as long as there is one. Fails with `in_use` if a server or a download
/// has it. Returns the bytes that it freed.
caf::expected<uint64_t> remove_model(const stored_model& model, const removal& what);

} // namespace troupe::storage
