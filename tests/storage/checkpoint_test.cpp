#include "storage/checkpoint.hpp"

#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "storage/errors.hpp"
#include "storage/shard_index.hpp"
#include "tests/storage/model_files.hpp"

namespace {

namespace fs = std::filesystem;
using namespace troupe;
using namespace troupe::storage;
using storage::test::safetensors;
using storage::test::write_file;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr auto index_name = "model.safetensors.index.json";

/// A file with one tensor of single bytes.
std::string file_of(const std::string& name, std::string_view content) {
  std::ostringstream json;
  json << "{\"" << name << R"(":{"dtype":"U8","shape":[)" << content.size()
       << R"(],"data_offsets":[0,)" << content.size() << "]}}";
  return safetensors(json.str(), content);
}

std::string text(const tensor_view& view) {
  return {reinterpret_cast<const char*>(view.bytes.data()), view.bytes.size()};
}

class checkpoint_test : public testing::Test {
protected:
  std::string refusal(errc code) {
    const auto result = checkpoint::open(dir);
    if (result) {
      ADD_FAILURE() << "accepted";
      return {};
    }
    EXPECT_EQ(result.error(), code) << describe(result.error());
    return describe(result.error());
  }
  std::shared_ptr<const checkpoint> opened() {
    auto result = checkpoint::open(dir);
    EXPECT_TRUE(result) << describe(result.error());
    return result ? *result : nullptr;
  }
  void write_shards() {
    write_file(dir / index_name, R"({"metadata":{"total_size":7},"weight_map":{)"
                                 R"("x":"model-00002-of-00002.safetensors",)"
                                 R"("y":"model-00001-of-00002.safetensors"}})");
    write_file(dir / "model-00001-of-00002.safetensors", file_of("y", "yyyy"));
    write_file(dir / "model-00002-of-00002.safetensors", file_of("x", "xxx"));
  }

  storage::test::temporary_directory temporary;
  fs::path dir = temporary.path();
};

TEST_F(checkpoint_test, a_single_file_gives_its_tensors_in_place) {
  write_file(dir / "model.safetensors",
             safetensors(R"({"w":{"dtype":"F16","shape":[2,1],"data_offsets":[0,4]},)"
                         R"("none":{"dtype":"F16","shape":[0],"data_offsets":[4,4]}})",
                         "abcd"));
  const auto weights = opened();
  ASSERT_TRUE(weights);
  EXPECT_EQ(weights->size_bytes(), 4u);
  EXPECT_THAT(weights->names(), ElementsAre("none", "w"));
  const auto w = weights->find("w");
  ASSERT_TRUE(w);
  EXPECT_EQ(w->type, dtype::f16);
  EXPECT_THAT(w->shape, ElementsAre(2, 1));
  EXPECT_EQ(text(*w), "abcd");
  EXPECT_TRUE(weights->find("none")->bytes.empty());
  EXPECT_FALSE(weights->find("absent"));
}

TEST_F(checkpoint_test, shards_are_found_through_the_index) {
  write_shards();
  const auto weights = opened();
  ASSERT_TRUE(weights);
  EXPECT_EQ(weights->size_bytes(), 7u);
  EXPECT_EQ(text(*weights->find("x")), "xxx");
  EXPECT_EQ(text(*weights->find("y")), "yyyy");
}

TEST_F(checkpoint_test, a_single_file_wins_over_an_index) {
  write_shards();
  write_file(dir / "model.safetensors", file_of("only", "o"));
  EXPECT_THAT(opened()->names(), ElementsAre("only"));
}

TEST_F(checkpoint_test, links_into_another_directory_are_followed) {
  write_file(dir / "blobs" / "abc", file_of("w", "ok"));
  fs::create_directory(dir / "snapshot");
  fs::create_symlink("../blobs/abc", dir / "snapshot" / "model.safetensors");
  dir /= "snapshot";
  EXPECT_EQ(text(*opened()->find("w")), "ok");
}

TEST_F(checkpoint_test, tensors_outlive_the_name_of_their_file) {
  write_file(dir / "model.safetensors", file_of("w", "ok"));
  const auto weights = opened();
  fs::remove(dir / "model.safetensors");
  EXPECT_EQ(text(*weights->find("w")), "ok");
  EXPECT_FALSE(weights->check_unchanged());
}

TEST_F(checkpoint_test, a_missing_shard_is_named) {
  write_shards();
  fs::remove(dir / "model-00002-of-00002.safetensors");
  EXPECT_THAT(refusal(errc::not_found), HasSubstr("model-00002-of-00002.safetensors"));
}

TEST_F(checkpoint_test, an_index_that_contradicts_its_shards_is_refused) {
  write_shards();
  write_file(dir / index_name, R"({"weight_map":{"x":"model-00001-of-00002.safetensors"}})");
  EXPECT_THAT(refusal(errc::inconsistent),
              AllOf(HasSubstr("\"x\""), HasSubstr("model-00001-of-00002.safetensors")));
}

TEST_F(checkpoint_test, tensors_beyond_the_index_do_not_belong_to_the_model) {
  write_shards();
  write_file(dir / index_name, R"({"weight_map":{"y":"model-00001-of-00002.safetensors"}})");
  EXPECT_THAT(opened()->names(), ElementsAre("y"));
}

TEST_F(checkpoint_test, an_index_cannot_point_out_of_its_directory) {
  for (const char* file : {"../model.safetensors", "/etc/passwd", "a/b.safetensors", "..", "",
                           "a\\\\b", "a\\u0000b"}) {
    write_file(dir / index_name, std::string{R"({"weight_map":{"x":")"} + file + R"("}})");
    EXPECT_THAT(refusal(errc::malformed), HasSubstr("not a file of this directory")) << file;
  }
}

TEST_F(checkpoint_test, a_broken_index_is_refused) {
  for (const char* json : {"", "{", "[]", "{}", R"({"weight_map":[]})", R"({"weight_map":{}})",
                           R"({"weight_map":{"x":1}})", R"({"weight_map":{"x":"a","x":"a"}})"}) {
    write_file(dir / index_name, json);
    EXPECT_THAT(refusal(errc::malformed), HasSubstr(index_name)) << json;
  }
  write_file(dir / index_name, storage::test::lfs_pointer);
  refusal(errc::not_downloaded);
}

TEST_F(checkpoint_test, a_directory_without_weights_says_what_is_there_instead) {
  EXPECT_THAT(refusal(errc::not_found), HasSubstr("no model.safetensors"));
  write_file(dir / "pytorch_model.bin", "x");
  EXPECT_THAT(refusal(errc::not_found), HasSubstr("converted to safetensors"));
  dir /= "absent";
  EXPECT_THAT(refusal(errc::not_found), HasSubstr("no such directory"));
}

TEST_F(checkpoint_test, weights_that_are_no_regular_file_are_refused_without_waiting) {
  ASSERT_EQ(::mkfifo((dir / "model.safetensors").c_str(), 0600), 0);
  EXPECT_THAT(refusal(errc::unreadable), HasSubstr("not a regular file"));
  fs::remove(dir / "model.safetensors");
  fs::create_symlink("nowhere", dir / "model.safetensors");
  EXPECT_THAT(refusal(errc::not_found), HasSubstr("leads nowhere"));
}

TEST_F(checkpoint_test, a_pointer_and_an_empty_file_are_refused) {
  write_file(dir / "model.safetensors", storage::test::lfs_pointer);
  EXPECT_THAT(refusal(errc::not_downloaded), HasSubstr("not downloaded"));
  write_file(dir / "model.safetensors", "");
  EXPECT_THAT(refusal(errc::short_read), HasSubstr("empty"));
}

TEST_F(checkpoint_test, warming_reports_progress_by_chunk_up_to_the_total) {
  write_file(dir / "model.safetensors", file_of("w", std::string(100'000, 'w')));
  std::vector<uint64_t> seen;
  const auto why = opened()->warm(
      [&](uint64_t done, uint64_t total) {
        EXPECT_EQ(total, 100'000u);
        seen.push_back(done);
        return true;
      },
      40'000);
  EXPECT_FALSE(why) << describe(why);
  EXPECT_THAT(seen, ElementsAre(0, 40'000, 80'000, 100'000));
}

TEST_F(checkpoint_test, warming_covers_all_shards_and_stops_when_told) {
  write_shards();
  const auto weights = opened();
  std::vector<uint64_t> seen;
  EXPECT_FALSE(weights->warm([&](uint64_t done, uint64_t) {
    seen.push_back(done);
    return true;
  }));
  EXPECT_THAT(seen, ElementsAre(0, 4, 7));
  size_t calls = 0;
  EXPECT_EQ(weights->warm([&](uint64_t, uint64_t) { return ++calls < 2; }), errc::cancelled);
  EXPECT_EQ(calls, 2u);
}

TEST_F(checkpoint_test, a_file_that_shrinks_while_it_is_mapped_is_an_error_and_no_signal) {
  const auto file = dir / "model.safetensors";
  write_file(file, file_of("w", std::string(100'000, 'w')));
  const auto weights = opened();
  fs::resize_file(file, 5000);
  EXPECT_EQ(weights->check_unchanged(), errc::changed);
  EXPECT_EQ(weights->warm([](uint64_t, uint64_t) { return true; }), errc::changed);
}

TEST_F(checkpoint_test, a_file_that_shrinks_in_the_middle_of_warming_is_an_error) {
  const auto file = dir / "model.safetensors";
  write_file(file, file_of("w", std::string(100'000, 'w')));
  const auto cut = [&](uint64_t done, uint64_t) {
    if (done != 0)
      fs::resize_file(file, 5000);
    return true;
  };
  EXPECT_EQ(opened()->warm(cut, 8192), errc::changed);
}

} // namespace
