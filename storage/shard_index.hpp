#pragma once
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"

namespace troupe::storage {

/// Longest accepted `model.safetensors.index.json`.
inline constexpr uint64_t shard_index_bytes_max = uint64_t{64} << 20;

/// What `model.safetensors.index.json` says: file name -> names of the tensors in it.
using shard_index = std::map<std::string, std::vector<std::string>>;

/// Parses an index. File names are plain names: anything that could leave the directory is refused.
/// `origin` (a path) begins every error message.
caf::expected<shard_index> parse_shard_index(std::string_view json, const std::string& origin);

} // namespace troupe::storage
