#pragma once
#include <filesystem>
#include <stop_token>
#include <string>
#include <vector>

#include "storage/store/pull.hpp"

namespace troupe::storage {

/// Fetches the heads of the GGUF files among `files`, which say what the model is and what its
/// tensors are, into files of the same names and lengths with holes behind them, below the store in
/// a hidden directory for the model `name`, and returns that directory. Blocks; fails as the source
/// does, for what is no GGUF file, or if the disk is full.
caf::expected<std::filesystem::path>
fetch_gguf_heads(source& from, const std::vector<source_file>& files, const pull_setup& how,
                 const std::string& name, const std::stop_token& stop);

} // namespace troupe::storage
