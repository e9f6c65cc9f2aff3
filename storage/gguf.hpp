#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/error.hpp"
#include "storage/gguf_blocks.hpp"

namespace troupe::storage {

/// An array of a GGUF file's metadata; one alternative by its element type.
using gguf_array = std::variant<std::vector<uint64_t>, std::vector<int64_t>, std::vector<double>,
                                std::vector<bool>, std::vector<std::string_view>>;

/// One metadata value; integers and floats of every width are widened. Text points into the file.
using gguf_value = std::variant<uint64_t, int64_t, double, bool, std::string_view, gguf_array>;

/// Where one tensor lies.
struct gguf_tensor {
  std::string_view name;
  ggml_type type = ggml_type::f32;
  std::vector<int64_t> shape; ///< rows first: the reverse of the order in the file
  uint64_t offset_bytes = 0;  ///< from the start of the file
  uint64_t size_bytes = 0;
};

struct gguf_header {
  uint32_t version = 0;
  std::map<std::string_view, gguf_value> metadata;
  std::vector<gguf_tensor> tensors; ///< by offset; inside the file, none overlaps another
};

/// Reads all but the tensors' data of a GGUF file, version 2 or 3, little endian. The result points
/// into `file`, which is the whole file. Memory is taken in proportion to bytes really there.
/// `origin` (a path) begins every error message. Layout: docs/gguf.md of the ggml project.
caf::expected<gguf_header> parse_gguf(std::span<const std::byte> file, const std::string& origin);

} // namespace troupe::storage
