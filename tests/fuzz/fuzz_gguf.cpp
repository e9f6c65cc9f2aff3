// Any bytes as a GGUF file: no crash, and whatever is accepted lies inside the file, apart.
#include <cstdint>
#include <cstdlib>
#include <span>

#include "storage/gguf.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto file = std::as_bytes(std::span{data, size});
  const auto header = troupe::storage::parse_gguf(file, size, "input");
  if (!header)
    return 0;
  uint64_t end = 0;
  for (const auto& tensor : header->tensors) {
    if (tensor.size_bytes == 0)
      continue;
    if (tensor.offset_bytes < end || tensor.offset_bytes > size ||
        tensor.size_bytes > size - tensor.offset_bytes)
      std::abort();
    end = tensor.offset_bytes + tensor.size_bytes;
  }
  return 0;
}
