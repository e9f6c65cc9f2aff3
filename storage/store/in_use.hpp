#pragma once
#include <filesystem>
#include <memory>

namespace troupe::storage {

/// The lock of a model that lies in a hub cache or in a store, for whoever uses or removes it;
/// empty for any other directory, which Troupe never removes. Or for its GGUF file.
std::filesystem::path use_lock_of(const std::filesystem::path& model_dir);

/// Keeps the model from being removed as long as what it returns lives. Null if nobody can remove
/// it anyway, or if its directory cannot be written to.
std::shared_ptr<const void> hold_model(const std::filesystem::path& model_dir);

} // namespace troupe::storage
