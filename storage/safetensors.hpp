#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.hpp"
#include "base/error.hpp"

namespace troupe::storage {

/// Longest accepted header, the length field not counted.
inline constexpr uint64_t safetensors_header_bytes_max = uint64_t{100} << 20;

/// Where one tensor lies.
struct tensor_entry {
  std::string name;
  dtype type = dtype::f32;
  std::vector<int64_t> shape;
  uint32_t shard = 0;        ///< which file of the checkpoint
  uint64_t offset_bytes = 0; ///< from the start of that file; not necessarily aligned to the type
  uint64_t size_bytes = 0;
};

/// Says whether `head`, the first bytes of a file, belong to a Git LFS pointer instead of content.
bool is_lfs_pointer(std::string_view head);

/// Bytes that must be passed to `parse_safetensors_header`: the length field and the JSON behind
/// it. `head` holds at least the first 8 bytes of the file. Fails if the file cannot be
/// safetensors.
caf::expected<uint64_t> safetensors_head_bytes(std::span<const std::byte> head, uint64_t file_size,
                                               const std::string& origin);

/// Parses and validates the header of a file of `file_size` bytes that begins with `head`. The
/// tensors come in file order, cover everything behind the header without gap or overlap, and their
/// sizes agree with shape and type. `origin` (a path) begins every error message.
caf::expected<std::vector<tensor_entry>> parse_safetensors_header(std::span<const std::byte> head,
                                                                  uint64_t file_size,
                                                                  const std::string& origin);

} // namespace troupe::storage
