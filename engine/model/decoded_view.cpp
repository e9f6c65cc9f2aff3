#include "engine/model/decoded_view.hpp"

#include <span>
#include <utility>
#include <vector>

#include "base/blocks.hpp"

namespace troupe::engine {

weight_view decoded(weight_view blocks) {
  auto out = blocks;
  out.type = dtype::bf16;
  out.data = nullptr;
  out.make = [blocks = std::move(blocks)](int64_t first, int64_t count, std::byte* to) {
    const auto cols = static_cast<uint64_t>(blocks.shape[1]), rows = static_cast<uint64_t>(count);
    const auto row_bytes = bytes_of(blocks.type, cols);
    std::vector<std::byte> made;
    const auto* from =
        static_cast<const std::byte*>(blocks.data) + static_cast<uint64_t>(first) * row_bytes;
    if (blocks.make) {
      made.resize(rows * row_bytes);
      blocks.make(first, count, made.data());
      from = made.data();
    }
    decode_blocks_to_bf16(blocks.type, std::span{from, rows * row_bytes},
                          {reinterpret_cast<uint16_t*>(to), rows * cols});
  };
  return out;
}

} // namespace troupe::engine
