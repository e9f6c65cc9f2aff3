#pragma once
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "storage/gguf_choice.hpp"

namespace troupe::storage {

/// What a look at one directory, or at one GGUF model, says about it.
struct model_dir {
  enum class verdict : uint8_t {
    unrelated, ///< nothing of a model in it
    model,
    unusable, ///< a model, or a part of one, that cannot be served; `why` says so
  };
  verdict kind = verdict::unrelated;
  std::string why;
  uint64_t weight_bytes = 0;
  std::string architecture;
  std::chrono::sys_seconds modified{};
  /// GGUF models in the directory, beside what else it is: of one in several files the first.
  std::vector<std::filesystem::path> gguf;
};

/// Looks at the files of `dir`, not below. Never opens weights, unless they are so small that they
/// may be a Git LFS pointer.
model_dir inspect_model_dir(const std::filesystem::path& dir);

/// Looks at the GGUF model that `path` or any part of it names: sizes, and the beginning of the
/// first file.
model_dir inspect_gguf(const std::filesystem::path& path);

/// The one model that is meant in a directory.
struct sole_model {
  /// What `checkpoint::open` takes: the directory, or its GGUF file; empty if there is none.
  std::filesystem::path path;
  model_dir look;
};
/// The directory itself if it is a model and `meant` names no GGUF model, else one of its GGUF
/// models, as `choose_gguf` says. `dir` may also be a GGUF file.
sole_model find_sole_model(const std::filesystem::path& dir, const gguf_choice& meant = {});

/// The directory that a model was fetched into: where `.troupe` lies, or a snapshot of the hub's
/// cache. Of any other model the directory itself, or that of its GGUF file.
std::filesystem::path model_root(const std::filesystem::path& model);

/// A file of at most `bytes_max`, or an empty string if it is absent, larger or unreadable.
std::string read_small_file(const std::filesystem::path& file, uint64_t bytes_max);

} // namespace troupe::storage
