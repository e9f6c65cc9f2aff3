#include "storage/gguf.hpp"

#include <fstream>
#include <iterator>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "storage/errors.hpp"

namespace {

using namespace troupe;
using namespace troupe::storage;
using testing::ElementsAre;
using testing::HasSubstr;

/// Written by the `gguf` package (tools/make_gguf_goldens.py).
std::string golden() {
  std::ifstream file(TROUPE_SOURCE_DIR "/tests/fuzz/corpus/gguf/tiny.gguf", std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

caf::expected<gguf_header> parse(const std::string& file) {
  return parse_gguf(std::as_bytes(std::span{file}), file.size(), "w.gguf");
}

void expect_refused(const std::string& file, errc code, const std::string& text) {
  const auto result = parse(file);
  ASSERT_FALSE(result) << text;
  EXPECT_EQ(result.error(), code) << describe(result.error());
  EXPECT_THAT(describe(result.error()), HasSubstr("w.gguf"));
  EXPECT_THAT(describe(result.error()), HasSubstr(text));
}

TEST(gguf, a_file_of_the_reference_writer_is_read) {
  const auto file = golden();
  const auto header = parse(file);
  ASSERT_TRUE(header) << describe(header.error());
  EXPECT_EQ(header->version, 3u);
  const auto& metadata = header->values;
  EXPECT_EQ(metadata.at("general.architecture"), metadata_value{std::string_view{"llama"}});
  EXPECT_EQ(metadata.at("t.u32"), metadata_value{uint64_t{7}});
  EXPECT_EQ(metadata.at("t.i32"), metadata_value{int64_t{-7}});
  EXPECT_EQ(metadata.at("t.f32"), metadata_value{0.5});
  EXPECT_EQ(metadata.at("t.bool"), metadata_value{true});
  const auto& words = std::get<metadata_list>(metadata.at("t.words"));
  EXPECT_THAT(std::get<std::vector<std::string_view>>(words), ElementsAre("a", "bc"));
  ASSERT_EQ(header->tensors.size(), 2u);
  EXPECT_EQ(header->tensors[0].name, "a.weight");
  EXPECT_THAT(header->tensors[0].shape, ElementsAre(2, 3));
  EXPECT_EQ(header->tensors[1].type, dtype::q8_0);
  EXPECT_THAT(header->tensors[1].shape, ElementsAre(2, 32));
  EXPECT_EQ(header->tensors[1].size_bytes, 68u);
}

TEST(gguf, no_truncation_is_accepted) {
  const auto file = golden();
  const auto header = parse(file);
  ASSERT_TRUE(header);
  const auto& last = header->tensors.back();
  for (size_t size = 0; size < last.offset_bytes + last.size_bytes; ++size) {
    const auto cut = parse(file.substr(0, size));
    ASSERT_FALSE(cut) << size;
    EXPECT_EQ(cut.error(), errc::short_read) << size;
  }
}

TEST(gguf, hostile_headers_are_refused) {
  auto file = golden();
  expect_refused("PK" + file, errc::malformed, "not a GGUF file");
  auto other = file;
  other[4] = 1;
  expect_refused(other, errc::unsupported, "version 1");
  other = file;
  other.replace(8, 8, 8, '\xff'); // the number of tensors
  const auto many_tensors = parse(other);
  EXPECT_FALSE(many_tensors);
  other = file;
  other.replace(16, 8, 8, '\xff'); // the number of metadata values
  EXPECT_FALSE(parse(other));
  other = file;
  // Behind its name: rank, two extents, type, offset. Both tensors at 0 overlap.
  const size_t offset = other.find("b.weight") + 8 + 4 + 16 + 4;
  other.replace(offset, 8, 8, '\0');
  expect_refused(other, errc::malformed, "overlaps");
  other = file;
  other[offset] = 33;
  expect_refused(other, errc::malformed, "not aligned");
  other = file;
  other[offset + 6] = 1;
  expect_refused(other, errc::short_read, "past the end");
  other = file;
  other[offset - 4] = 99;
  expect_refused(other, errc::unsupported, "element type 99");
}

} // namespace
