#include "storage/gguf_files.hpp"

#include <algorithm>
#include <fstream>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "storage/catalog.hpp"
#include "storage/checkpoint.hpp"
#include "storage/errors.hpp"
#include "tests/storage/model_files.hpp"

namespace {

namespace fs = std::filesystem;
using namespace troupe;
using namespace troupe::storage;
using storage::test::write_file;
using storage::test::write_model;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

/// A model in one file and one in three, made by tools/make_gguf_models.py.
const fs::path goldens = fs::path{TROUPE_SOURCE_DIR} / "tests" / "golden" / "gguf_models";

fs::path part(const fs::path& dir, int number, int count = 3) {
  return dir /
         ("split-0000" + std::to_string(number) + "-of-0000" + std::to_string(count) + ".gguf");
}

std::string content_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

class gguf_files_test : public testing::Test {
protected:
  void SetUp() override {
    for (const int number : {1, 2, 3})
      fs::copy_file(part(goldens, number), part(dir, number));
  }
  /// What opening the model that part 1 names fails with.
  std::string refusal(errc code) {
    const auto opened = checkpoint::open(part(dir, 1));
    EXPECT_FALSE(opened);
    if (opened)
      return "";
    EXPECT_EQ(opened.error(), code) << describe(opened.error());
    return describe(opened.error());
  }

  storage::test::temporary_directory temporary;
  fs::path dir = temporary.path();
};

TEST_F(gguf_files_test, any_part_opens_the_same_tensors_as_the_whole) {
  const auto whole = checkpoint::open(goldens / "llama_gqa_tied.gguf");
  ASSERT_TRUE(whole) << describe(whole.error());
  for (const int number : {1, 2, 3}) {
    const auto parts = checkpoint::open(part(dir, number));
    ASSERT_TRUE(parts) << describe(parts.error());
    ASSERT_EQ((*parts)->names(), (*whole)->names());
    EXPECT_EQ((*parts)->size_bytes(), (*whole)->size_bytes());
    for (const auto& name : (*whole)->names()) {
      const auto one = (*whole)->find(name), other = (*parts)->find(name);
      EXPECT_TRUE(std::ranges::equal(one->bytes, other->bytes)) << name;
    }
    EXPECT_FALSE((*parts)->warm([](uint64_t, uint64_t) { return true; }));
  }
}

TEST_F(gguf_files_test, parts_that_do_not_belong_together_are_refused) {
  fs::remove(part(dir, 2));
  EXPECT_THAT(refusal(errc::not_found), HasSubstr("split-00002-of-00003.gguf: this part"));
  fs::copy_file(part(dir, 3), part(dir, 2));
  EXPECT_THAT(refusal(errc::inconsistent), HasSubstr("is part 3 of 3"));
  fs::remove(part(dir, 2));
  fs::copy_file(goldens / "llama_gqa_tied.gguf", part(dir, 2));
  EXPECT_THAT(refusal(errc::inconsistent), HasSubstr("is a whole one"));
  write_file(part(dir, 2), "");
  EXPECT_THAT(refusal(errc::short_read), HasSubstr("download it again"));
  write_file(part(dir, 2), storage::test::lfs_pointer);
  EXPECT_THAT(refusal(errc::not_downloaded), HasSubstr("git lfs pull"));
}

TEST_F(gguf_files_test, a_part_under_another_name_is_refused) {
  fs::rename(part(dir, 1), dir / "alone.gguf");
  const auto opened = checkpoint::open(dir / "alone.gguf");
  ASSERT_FALSE(opened);
  EXPECT_THAT(describe(opened.error()),
              HasSubstr("part 1 of 3 of a split model, but not named so"));
}

TEST_F(gguf_files_test, a_file_cut_anywhere_is_refused) {
  const auto file = content_of(goldens / "llama_gqa_tied.gguf");
  for (size_t size = 0; size < file.size() - 32; size += 997) {
    write_file(dir / "cut.gguf", std::string_view{file}.substr(0, size));
    const auto opened = checkpoint::open(dir / "cut.gguf");
    ASSERT_FALSE(opened) << size;
    EXPECT_EQ(opened.error(), errc::short_read) << describe(opened.error());
  }
}

TEST(gguf_names, only_complete_marks_are_taken_for_parts) {
  const auto found = gguf_part_of("a-b-00002-of-00010.gguf");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->name, "a-b");
  EXPECT_EQ(found->number, 2u);
  EXPECT_EQ(found->count, 10u);
  for (const auto* name :
       {"a.gguf", "-00001-of-00002.gguf", "a-00003-of-00002.gguf", "a-00000-of-00002.gguf",
        "a-00001-of-00002.bin", "a-0000x-of-00002.gguf", "a-00001-of-99999.gguf", "a-1-of-2.gguf"})
    EXPECT_FALSE(gguf_part_of(name)) << name;
  EXPECT_EQ(gguf_model_name("/x/tiny.Q8_0.gguf"), "tiny.Q8_0");
  EXPECT_EQ(gguf_parts("/x/a-00002-of-00002.gguf").front(), "/x/a-00001-of-00002.gguf");
}

std::vector<std::string> ids(const catalog& found) {
  std::vector<std::string> out;
  for (const auto& model : found.models)
    out.push_back(model.id.text);
  return out;
}

TEST_F(gguf_files_test, the_catalog_lists_a_model_once_however_many_files_it_has) {
  const auto found = find_models({dir});
  ASSERT_THAT(ids(found), ElementsAre("split"));
  const auto& model = found.models.front();
  EXPECT_EQ(model.dir, part(dir, 1));
  EXPECT_EQ(model.architecture, "llama");
  EXPECT_EQ(model.weight_bytes, fs::file_size(part(dir, 1)) + fs::file_size(part(dir, 2)) +
                                    fs::file_size(part(dir, 3)));
  EXPECT_THAT(ids(find_models({part(dir, 2)})), ElementsAre("split"));
  fs::remove(part(dir, 3));
  const auto partial = find_models({dir});
  EXPECT_THAT(ids(partial), IsEmpty());
  ASSERT_EQ(partial.skipped.size(), 1u);
  EXPECT_THAT(partial.skipped.front().why, HasSubstr("1 of 3 files are missing"));
}

TEST_F(gguf_files_test, files_beside_another_model_and_below_it_are_found_by_their_names) {
  write_model(dir / "org" / "m");
  fs::copy_file(goldens / "qwen3.gguf", dir / "org" / "m" / "m-Q8_0.gguf");
  write_file(dir / "org" / "m" / "notes.txt", "x");
  EXPECT_THAT(ids(find_models({dir})), ElementsAre("org/m", "org/m/m-Q8_0", "split"));
}

TEST_F(gguf_files_test, a_hub_cache_lists_each_file_of_a_snapshot) {
  const auto repository = dir / "hub" / "models--org--tiny-GGUF";
  const auto snapshot = repository / "snapshots" / "0123456789abcdef";
  fs::create_directories(snapshot / "large");
  fs::create_directories(repository / "blobs");
  fs::copy_file(goldens / "qwen3.gguf", repository / "blobs" / "aa");
  fs::create_symlink(repository / "blobs" / "aa", snapshot / "tiny-Q8_0.gguf");
  for (const int number : {1, 2, 3})
    fs::rename(part(dir, number), part(snapshot / "large", number));
  write_file(snapshot / "config.json", storage::test::llama_config);
  EXPECT_THAT(ids(find_models({dir / "hub"})),
              ElementsAre("org/tiny-GGUF/large/split", "org/tiny-GGUF/tiny-Q8_0"));
}

TEST_F(gguf_files_test, the_image_part_of_a_model_is_noted) {
  auto file = content_of(goldens / "llama_gqa_tied.gguf");
  const auto at = file.find("llama");
  file.replace(at - 8, 13, std::string{"\4\0\0\0\0\0\0\0clip", 12} + file[at + 5]);
  write_file(dir / "x" / "mmproj.gguf", file);
  const auto found = find_models({dir / "x"});
  EXPECT_THAT(ids(found), IsEmpty());
  ASSERT_EQ(found.skipped.size(), 1u);
  EXPECT_THAT(found.skipped.front().why, HasSubstr("sees images"));
}

} // namespace
