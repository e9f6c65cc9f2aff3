#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.hpp"
#include "base/error.hpp"
#include "base/metadata.hpp"

namespace troupe::storage {

/// Where one tensor lies.
struct gguf_tensor {
  std::string_view name;
  dtype type = dtype::f32;
  std::vector<int64_t> shape; ///< rows first: the reverse of the order in the file
  uint64_t offset_bytes = 0;  ///< from the start of the file
  uint64_t size_bytes = 0;
};

struct gguf_header {
  uint32_t version = 0;
  troupe::metadata values;          ///< by name
  std::vector<gguf_tensor> tensors; ///< by offset; inside the file, none overlaps another
};

/// Reads all but the tensors' data of a GGUF file, version 2 or 3, little endian. `head` is the
/// beginning of a file of `file_bytes`, long enough for all that stands before the data; one that
/// is not fails with short_read. The result points into `head`, and its memory is in proportion to
/// it. `origin` (a path) begins every error message. Layout: docs/gguf.md of the ggml project.
caf::expected<gguf_header> parse_gguf(std::span<const std::byte> head, uint64_t file_bytes,
                                      const std::string& origin);

} // namespace troupe::storage
