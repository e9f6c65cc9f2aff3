#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/dtype.hpp"
#include "base/error.hpp"
#include "storage/gguf.hpp"
#include "storage/mapped_file.hpp"
#include "storage/safetensors.hpp"

namespace troupe::storage {

/// One tensor of an open checkpoint; valid as long as the checkpoint is. `bytes` begins wherever
/// the file puts it, so it need not be aligned to the element type.
struct tensor_view {
  dtype type = dtype::f32;
  std::span<const int64_t> shape;
  std::span<const std::byte> bytes;
};

/// Where a file lies that is not at its own place; empty for those that are.
using file_places = std::function<std::filesystem::path(const std::filesystem::path& file)>;

/// The weights of a Hugging Face directory or of a GGUF model: every shard mapped, nothing copied
/// to the heap. Immutable, and all functions may be called from any thread.
class checkpoint {
public:
  /// Opens `model.safetensors`, or the shards that `model.safetensors.index.json` names. Reads
  /// headers only. Fails unless every tensor is where header and index say. If `path` is a file, it
  /// is a GGUF file or any part of a split one: its tensors have the names that GGUF gives them.
  /// Files for which `places` says something lie there, not yet at their own place.
  static caf::expected<std::shared_ptr<const checkpoint>> open(const std::filesystem::path& path,
                                                               file_places places = {});

  std::optional<tensor_view> find(std::string_view name) const;
  /// Sum of the tensors' bytes.
  uint64_t size_bytes() const { return size_bytes_; }
  /// The mapped files; every tensor's bytes lie in one of them.
  std::span<const mapped_file> files() const { return shards_; }
  /// All tensor names, sorted.
  std::vector<std::string> names() const;

  /// Brings the mapped bytes into memory in file order. Calls `progress(done, total)` (bytes) first
  /// with 0 and then after every `chunk_bytes` at the latest; when it returns false, stops with
  /// `cancelled`. Fails with `changed` if a shard was truncated or rewritten since `open`.
  caf::error warm(std::function<bool(uint64_t done, uint64_t total)> progress,
                  uint64_t chunk_bytes = uint64_t{16} << 20) const;

  /// Fails with `changed` if a shard was truncated or rewritten since `open`.
  caf::error check_unchanged() const;

private:
  struct by_name {
    using is_transparent = void;
    size_t operator()(std::string_view name) const { return std::hash<std::string_view>{}(name); }
  };
  struct span_bytes {
    uint64_t first = 0, last = 0;
  };

  checkpoint() = default;
  caf::error add_shard(const std::filesystem::path& file);
  caf::error open_dir(const std::filesystem::path& dir);
  caf::error open_indexed(const std::filesystem::path& index);
  caf::error open_gguf(const std::filesystem::path& path);
  caf::error add_gguf_part(mapped_file file, const gguf_header& header);
  void keep(tensor_entry entry);

  /// Where a file lies that is not at its own place.
  std::filesystem::path elsewhere(const std::filesystem::path& file) const;

  file_places places_; // emptied once `open` is through
  std::vector<mapped_file> shards_;
  std::vector<std::vector<tensor_entry>> headers_; // per shard; emptied once `open` is through
  std::unordered_map<std::string, tensor_entry, by_name, std::equal_to<>> tensors_;
  std::vector<span_bytes> used_; // per shard, the range that tensors lie in
  uint64_t size_bytes_ = 0;
};

} // namespace troupe::storage
