// Any bytes as a safetensors file, and as a shard index: no crash, and whatever is accepted lies
// inside the file, tensor after tensor.
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>

#include "storage/safetensors.hpp"
#include "storage/shard_index.hpp"

using namespace troupe::storage;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const uint8_t> input(data, size);
  const auto check = [](std::span<const std::byte> file) {
    const auto tensors = parse_safetensors_header(file, file.size(), "input");
    if (!tensors)
      return;
    uint64_t end = tensors->empty() ? file.size() : tensors->front().offset_bytes;
    for (const auto& tensor : *tensors) {
      if (tensor.offset_bytes != end || tensor.size_bytes > file.size() - end)
        std::abort();
      end += tensor.size_bytes;
    }
    if (end != file.size())
      std::abort();
  };
  check(std::as_bytes(input));
  // The same with a length that fits, or mutations would hardly ever get past the first field.
  std::string fitting(8, '\0');
  const auto* text = reinterpret_cast<const char*>(data);
  const std::string_view rest(text + (size < 8 ? size : 8), size < 8 ? 0 : size - 8);
  const auto close = rest.find("}}");
  const uint64_t length = close == std::string_view::npos ? rest.size() : close + 2;
  for (int i = 0; i < 8; ++i)
    fitting[static_cast<size_t>(i)] = static_cast<char>(length >> (8 * i));
  fitting += rest;
  check(std::as_bytes(std::span{fitting}));
  if (const auto index = parse_shard_index(rest, "input"))
    for (const auto& [file, tensors] : *index)
      if (file.find('/') != std::string::npos || tensors.empty())
        std::abort();
  return 0;
}
