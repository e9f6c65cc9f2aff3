#include "actors/weight_views.hpp"

#include <algorithm>

#include "storage/gguf_blocks.hpp"

namespace troupe::actors {

engine::weight_view view_of(const storage::tensor_view& found) {
  engine::weight_view out;
  out.type = found.type;
  out.shape.assign(found.shape.begin(), found.shape.end());
  out.drop = [bytes = found.bytes, all = rows_of(found)](int64_t rows) {
    storage::drop_pages(bytes.data(), bytes.size() / all * static_cast<uint64_t>(rows));
  };
  if (is_blocks(found.type) || layout_of(found.type).elements == 1 || out.shape.empty()) {
    out.data = found.bytes.data();
    return out;
  }
  const auto cols = static_cast<uint64_t>(out.shape.back());
  const auto row_bytes = bytes_of(found.type, cols);
  out.type = dtype::bf16;
  out.make = [=, from = found.type, bytes = found.bytes](int64_t first, int64_t count,
                                                         std::byte* to) {
    const auto rows = static_cast<uint64_t>(count);
    storage::dequantize_to_bf16(
        from, bytes.subspan(static_cast<uint64_t>(first) * row_bytes, rows * row_bytes),
        {reinterpret_cast<uint16_t*>(to), rows * cols});
  };
  return out;
}

uint64_t rows_of(const storage::tensor_view& tensor) {
  return tensor.shape.empty() ? 1 : std::max<uint64_t>(1, static_cast<uint64_t>(tensor.shape[0]));
}

engine::weight_lookup weight_views(const storage::checkpoint& files) {
  return [&files](std::string_view name) -> std::optional<engine::weight_view> {
    const auto found = files.find(name);
    if (!found)
      return std::nullopt;
    return view_of(*found);
  };
}

} // namespace troupe::actors
