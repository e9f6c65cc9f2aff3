#pragma once
#include <cstddef>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "storage/gguf.hpp"
#include "storage/mapped_file.hpp"

namespace troupe::storage {

/// Says whether `path` names a GGUF file, by its ending alone.
bool is_gguf(const std::filesystem::path& path);

/// The place of one file of a split model, by its name: "NAME-00002-of-00005.gguf".
struct gguf_part {
  std::string name;    ///< NAME
  uint32_t number = 1; ///< from 1
  uint32_t count = 1;
};
/// Nothing for the name of a file that is a whole model.
std::optional<gguf_part> gguf_part_of(std::string_view file_name);

/// The name of a model: the file's, without what marks a part, without ".gguf".
std::string gguf_model_name(const std::filesystem::path& path);

/// The files of the model that `path` or any part of it names, in order.
std::vector<std::filesystem::path> gguf_parts(const std::filesystem::path& path);

/// What stands before the data of a GGUF file, in memory of its own: a parser must not run over
/// bytes that another process may change under it. May be moved, not copied.
class gguf_head {
public:
  /// Fails for what is no GGUF file, a Git LFS pointer, or a header of more than 512 MiB.
  static caf::expected<gguf_head> read(const mapped_file& file);
  /// Reads the first bytes of a file into `into`.
  using reader = std::function<caf::error(std::span<std::byte> into)>;
  /// The same of a file of `size_bytes` that is read by other means; `origin` begins every message.
  static caf::expected<gguf_head> read(const reader& from, uint64_t size_bytes,
                                       const std::string& origin);
  /// The head of the model's first file, which says what the model is. `at` = where that file
  /// really lies now; empty = there.
  static caf::expected<gguf_head> read_first(const std::filesystem::path& path,
                                             const std::filesystem::path& at = {});

  gguf_head(gguf_head&&) = default;
  gguf_head& operator=(gguf_head&&) = default;
  const gguf_header& header() const { return header_; }
  /// The file up to some place behind its head.
  std::span<const std::byte> bytes() const { return bytes_; }

private:
  gguf_head() = default;
  std::vector<std::byte> bytes_;
  gguf_header header_; // points into bytes_
};

/// `general.architecture`, if it stands at the beginning, where every writer puts it; else empty.
std::string gguf_architecture(const mapped_file& file);

/// Fails unless the file at `path` is that part of a split model which its name says.
caf::error check_gguf_part(const metadata& values, const std::filesystem::path& path);

} // namespace troupe::storage
