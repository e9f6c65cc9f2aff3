#pragma once
#include <filesystem>
#include <memory>

namespace troupe::storage {

/// The lock of a model that lies in a hub cache or in a store, for whoever uses or removes it;
/// empty for any other directory, which Troupe never removes. Or for its GGUF file.
std::filesystem::path use_lock_of(const std::filesystem::path& model_dir);

/// Beside that lock, `use_lock`: for whoever uses only the GGUF model that begins with the file
/// `gguf`, a path below the directory of the model. Empty = for whoever uses all there is, or what
/// he has not said.
std::filesystem::path part_lock(const std::filesystem::path& use_lock,
                                const std::filesystem::path& gguf = {});

/// Keeps the model from being removed as long as what it returns lives; of several GGUF models in
/// one directory the one that `model_dir` names, and no other. Null if nobody can remove it anyway,
/// or if its directory cannot be written to.
std::shared_ptr<const void> hold_model(const std::filesystem::path& model_dir);

} // namespace troupe::storage
