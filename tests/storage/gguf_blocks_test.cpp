#include "storage/gguf_blocks.hpp"

#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/blocks.hpp"
#include "base/half.hpp"

namespace {

using namespace troupe;
using namespace troupe::storage;

constexpr size_t golden_blocks = 3;
constexpr uint32_t read_types[] = {0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 30};

struct golden {
  std::vector<std::byte> blocks;
  std::vector<float> values;
};

golden load(uint32_t type) {
  const auto layout = layout_of(ggml_dtype(type).value());
  const std::string path =
      TROUPE_SOURCE_DIR "/tests/golden/gguf/" + std::string{ggml_type_name(type)} + ".bin";
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  golden out;
  out.blocks.resize(golden_blocks * layout.bytes);
  out.values.resize(golden_blocks * layout.elements);
  const size_t expected_bytes = out.blocks.size() + out.values.size() * sizeof(float);
  EXPECT_EQ(text.size(), expected_bytes) << path;
  if (text.size() == expected_bytes) {
    std::memcpy(out.blocks.data(), text.data(), out.blocks.size());
    std::memcpy(out.values.data(), text.data() + out.blocks.size(),
                out.values.size() * sizeof(float));
  }
  return out;
}

TEST(gguf_blocks, every_type_decodes_to_the_bits_of_the_reference) {
  for (const uint32_t type : read_types) {
    const auto expected = load(type);
    std::vector<float> values(expected.values.size());
    decode_blocks(*ggml_dtype(type), expected.blocks, values);
    for (size_t i = 0; i < values.size(); ++i)
      ASSERT_EQ(std::memcmp(&values[i], &expected.values[i], sizeof(float)), 0)
          << ggml_type_name(type) << " element " << i << ": " << values[i] << ", not "
          << expected.values[i];
  }
}

TEST(gguf_blocks, bfloat16_is_the_float_rounded_once) {
  for (const uint32_t type : read_types) {
    const auto expected = load(type);
    std::vector<uint16_t> values(expected.values.size());
    decode_blocks_to_bf16(*ggml_dtype(type), expected.blocks, values);
    for (size_t i = 0; i < values.size(); ++i)
      ASSERT_EQ(values[i], float_to_bf16(expected.values[i]))
          << ggml_type_name(type) << " element " << i;
  }
}

TEST(gguf_blocks, other_types_have_no_layout) {
  for (const uint32_t type : {4u, 5u, 9u, 10u, 11u, 15u, 16u, 29u, 31u, 39u, 0xffffffffu})
    EXPECT_FALSE(ggml_dtype(type)) << type;
}

} // namespace
