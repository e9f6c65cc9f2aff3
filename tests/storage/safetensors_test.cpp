#include "storage/safetensors.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "storage/errors.hpp"
#include "tests/storage/model_files.hpp"

namespace {

using namespace troupe;
using namespace troupe::storage;
using storage::test::safetensors;
using testing::HasSubstr;

caf::expected<std::vector<tensor_entry>> parse(const std::string& file) {
  return parse_safetensors_header(std::as_bytes(std::span{file}), file.size(), "w.safetensors");
}

/// Header and data -> the error's text; fails if it has another code or does not name the file.
std::string refusal(const std::string& file, errc code) {
  const auto result = parse(file);
  if (result) {
    ADD_FAILURE() << "accepted";
    return {};
  }
  EXPECT_EQ(result.error(), code) << describe(result.error());
  const auto text = describe(result.error());
  EXPECT_THAT(text, HasSubstr("w.safetensors"));
  return text;
}

std::string one(std::string_view dtype, std::string_view shape, std::string_view offsets) {
  std::string out = R"({"t":{"dtype":")";
  out.append(dtype).append(R"(","shape":)").append(shape);
  return out.append(R"(,"data_offsets":)").append(offsets).append("}}");
}

TEST(safetensors, tensors_come_in_file_order_with_absolute_offsets) {
  const std::string json = R"({"__metadata__":{"format":"pt"},)"
                           R"("b":{"dtype":"BF16","shape":[2,2],"data_offsets":[4,12]},)"
                           R"("a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}   )";
  const auto result = parse(safetensors(json, std::string(12, 'x')));
  ASSERT_TRUE(result) << describe(result.error());
  ASSERT_EQ(result->size(), 2u);
  const auto& a = result->at(0);
  EXPECT_EQ(a.name, "a");
  EXPECT_EQ(a.type, dtype::f32);
  EXPECT_TRUE(a.shape.empty());
  EXPECT_EQ(a.offset_bytes, 8 + json.size());
  EXPECT_EQ(a.size_bytes, 4u);
  const auto& b = result->at(1);
  EXPECT_EQ(b.type, dtype::bf16);
  EXPECT_EQ(b.shape, (std::vector<int64_t>{2, 2}));
  EXPECT_EQ(b.offset_bytes, 12 + json.size());
}

TEST(safetensors, every_element_type_has_its_size) {
  const std::pair<const char*, size_t> types[] = {
      {"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"I64", 8},     {"I32", 4},
      {"I16", 2}, {"I8", 1},  {"U8", 1},  {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}};
  for (const auto& [name, bytes] : types) {
    const auto end = std::to_string(3 * bytes);
    const auto result =
        parse(safetensors(one(name, "[3]", "[0," + end + "]"), std::string(3 * bytes, 'x')));
    ASSERT_TRUE(result) << name << ": " << describe(result.error());
    EXPECT_EQ(size_of(result->front().type), bytes) << name;
  }
}

TEST(safetensors, tensors_without_elements_are_fine) {
  const auto result = parse(
      safetensors(R"({"n":{"dtype":"F32","shape":[0,9223372036854775807],"data_offsets":[4,4]},)"
                  R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                  R"("m":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}})",
                  "1234"));
  ASSERT_TRUE(result) << describe(result.error());
  EXPECT_EQ(result->size(), 3u);
  EXPECT_TRUE(parse(safetensors("{}")));
}

TEST(safetensors, names_are_unescaped_and_unknown_members_are_ignored) {
  const auto result = parse(safetensors(
      R"({"\u00e9\n":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"comment":[{}]}})", "x"));
  ASSERT_TRUE(result) << describe(result.error());
  EXPECT_EQ(result->front().name, "\u00e9\n");
}

TEST(safetensors, a_file_that_is_no_safetensors_is_refused) {
  EXPECT_THAT(refusal("", errc::short_read), HasSubstr("empty"));
  EXPECT_THAT(refusal("1234567", errc::short_read), HasSubstr("too few"));
  EXPECT_THAT(refusal("<!DOCTYPE html><html></html>", errc::malformed),
              HasSubstr("not a safetens"));
  EXPECT_THAT(refusal(std::string{storage::test::lfs_pointer}, errc::not_downloaded),
              HasSubstr("Git LFS pointer, the weights were not downloaded"));
}

TEST(safetensors, a_header_longer_than_the_limit_or_the_file_is_refused) {
  const auto with_length = [](uint64_t length, std::string rest) {
    auto file = safetensors("", rest);
    std::memcpy(file.data(), &length, sizeof length);
    return file;
  };
  refusal(with_length(safetensors_header_bytes_max + 1, "{}"), errc::malformed);
  refusal(with_length(~uint64_t{0}, "{}"), errc::malformed);
  refusal(with_length(3, "{}"), errc::short_read);
  refusal(with_length(0, ""), errc::malformed);
}

TEST(safetensors, a_head_that_was_cut_is_refused_even_if_the_file_is_long_enough) {
  const auto file = safetensors(one("U8", "[1]", "[0,1]"), "x");
  const auto cut = std::as_bytes(std::span{file}).first(20);
  const auto result = parse_safetensors_header(cut, file.size(), "w");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error(), errc::short_read);
}

TEST(safetensors, a_header_that_is_not_an_object_is_refused) {
  for (const char* json : {"[]", "null", " {}", "{", "{}x", "{} {}", R"({"a":1})", R"({"a":[]})",
                           R"({"__metadata__":1})", R"({"__metadata__":{"a":1}})", "{\"\xff\":{}}"})
    refusal(safetensors(json), errc::malformed);
  refusal(safetensors('{' + std::string(100'000, '[')), errc::malformed);
  std::string deep = R"({"a":)" + std::string(50'000, '[') + std::string(50'000, ']') + "}";
  refusal(safetensors(deep), errc::malformed);
}

TEST(safetensors, a_member_that_is_missing_repeated_or_of_the_wrong_kind_is_refused) {
  for (const char* tensor :
       {R"({"dtype":"U8","shape":[1]})", R"({"dtype":"U8","data_offsets":[0,1]})",
        R"({"shape":[1],"data_offsets":[0,1]})", R"({"dtype":1,"shape":[1],"data_offsets":[0,1]})",
        R"({"dtype":"U8","shape":1,"data_offsets":[0,1]})",
        R"({"dtype":"U8","shape":[-1],"data_offsets":[0,1]})",
        R"({"dtype":"U8","shape":[1.0],"data_offsets":[0,1]})",
        R"({"dtype":"U8","shape":["1"],"data_offsets":[0,1]})",
        R"({"dtype":"U8","shape":[9223372036854775808],"data_offsets":[0,1]})",
        R"({"dtype":"U8","shape":[1],"data_offsets":[0]})",
        R"({"dtype":"U8","shape":[1],"data_offsets":[0,1,2]})",
        R"({"dtype":"U8","shape":[1],"data_offsets":[1,0]})",
        R"({"dtype":"U8","shape":[1],"data_offsets":[-1,0]})",
        R"({"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]})"})
    EXPECT_THAT(
        refusal(safetensors(std::string{R"({"wte":)"} + tensor + "}", "x"), errc::malformed),
        HasSubstr("\"wte\""))
        << tensor;
}

TEST(safetensors, an_unknown_element_type_is_named_with_its_tensor) {
  EXPECT_THAT(refusal(safetensors(one("F4", "[2]", "[0,1]"), "x"), errc::unsupported),
              testing::AllOf(HasSubstr("\"t\""), HasSubstr("\"F4\"")));
}

TEST(safetensors, a_size_that_contradicts_shape_and_type_is_refused) {
  EXPECT_THAT(refusal(safetensors(one("F32", "[2]", "[0,4]"), "1234"), errc::malformed),
              HasSubstr("need 8"));
  EXPECT_THAT(refusal(safetensors(one("F32", "[4294967296,4294967296]", "[0,0]")), errc::malformed),
              HasSubstr("overflows"));
  EXPECT_THAT(refusal(safetensors(one("F64", "[4611686018427387904]", "[0,0]")), errc::malformed),
              HasSubstr("overflows"));
}

TEST(safetensors, overlaps_gaps_and_trailing_bytes_are_refused) {
  const auto two = [](const char* first, const char* second) {
    return std::string{R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)"} + first +
           R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + second + "}}";
  };
  EXPECT_THAT(refusal(safetensors(two("[0,4]", "[3,7]"), "1234567"), errc::malformed),
              HasSubstr("\"b\" overlaps"));
  refusal(safetensors(two("[0,4]", "[0,4]"), "1234"), errc::malformed);
  EXPECT_THAT(refusal(safetensors(two("[0,4]", "[5,9]"), "123456789"), errc::malformed),
              HasSubstr("gap of 1"));
  EXPECT_THAT(refusal(safetensors(two("[0,4]", "[4,8]"), "123456789"), errc::malformed),
              HasSubstr("1 bytes follow"));
}

TEST(safetensors, a_truncated_file_says_how_much_is_missing) {
  EXPECT_THAT(refusal(safetensors(one("U8", "[100]", "[0,100]"), "1234"), errc::short_read),
              HasSubstr("96 bytes past the end"));
}

TEST(safetensors, a_repeated_name_is_refused_and_shown_without_control_characters) {
  const std::string empty = R"({"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  const std::string json = R"({"a\u001b":)" + empty + R"(,"a\u001b":)" + empty + "}";
  const auto text = refusal(safetensors(json), errc::malformed);
  EXPECT_THAT(text, HasSubstr("twice"));
  EXPECT_THAT(text, testing::Not(HasSubstr("\x1b")));
}

} // namespace
