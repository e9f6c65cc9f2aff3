#pragma once
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.hpp"

namespace troupe::storage {

/// A model that can be opened with `checkpoint::open`, as far as a look at it can tell.
struct model_source {
  model_id id;
  std::filesystem::path dir; ///< or its GGUF file, the first if there are several
  /// Where it is fetched from when it is first needed (see `parse_origin` of storage/store); `dir`
  /// is then empty until it has been.
  std::string origin{};
  uint64_t weight_bytes = 0; ///< size of the weight files
  std::string architecture;  ///< as config.json or the GGUF file names it; empty if it does not
  std::chrono::sys_seconds modified{}; ///< when the weights were last written
};

/// Something that looks like a model but cannot be served, and why.
struct catalog_note {
  std::filesystem::path where;
  std::string why;
};

struct catalog {
  std::vector<model_source> models; ///< by root, then by id; ids are unique
  std::vector<catalog_note> skipped;
};

/// Finds models. A root may be a model directory, a GGUF file, hold model directories up to three
/// levels down
/// (`name`, `org/name`, `collection/org/name`), or be a Hugging Face hub cache
/// (`models--org--name`, the snapshot that `refs/main` names). The id is the path relative to the
/// root, the hub's name, or the directory's own name if the root is the model; a GGUF model adds
/// its file's name without the ending. Of two models with one id the first root's wins. Only looks
/// at file sizes and reads config.json, and the first bytes of GGUF files.
catalog find_models(const std::vector<std::filesystem::path>& roots);

/// Where Hugging Face programs keep their things: HF_HOME, else huggingface under XDG_CACHE_HOME or
/// ~/.cache; empty if there is no home directory.
std::filesystem::path hub_home();

/// Where the hub cache of the environment is or would be: HF_HUB_CACHE, else `hub` in hub_home().
std::filesystem::path hub_cache_dir();

/// The same if it exists.
std::optional<std::filesystem::path> default_hub_cache();

} // namespace troupe::storage
