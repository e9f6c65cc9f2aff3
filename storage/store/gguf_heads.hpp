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

/// Removes the heads of the model `name`, and of the GGUF models of the repository that it is
/// ("name:TAG", "name/FILE"), from the store. Returns how many models had some.
size_t remove_gguf_heads(const std::filesystem::path& store, const std::string& name);

/// Removes the heads of the model `name` alone: all of it is here, so nobody needs them.
void drop_gguf_heads(const std::filesystem::path& store, const std::string& name);

} // namespace troupe::storage
