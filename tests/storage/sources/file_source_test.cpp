#include "storage/sources/file_source.hpp"

#include <gtest/gtest.h>

#include "storage/errors.hpp"
#include "tests/storage/model_files.hpp"

namespace troupe::storage {
namespace {

namespace fs = std::filesystem;
using test::temporary_directory;
using test::write_file;

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string pattern(size_t size) {
  std::string out(size, '\0');
  for (size_t i = 0; i < size; ++i)
    out[i] = static_cast<char>(i * 131 + i / 251);
  return out;
}

TEST(file_source, lists_files_below_its_root_by_path_and_follows_links) {
  temporary_directory dir;
  write_file(dir.path() / "root/config.json", "{}");
  write_file(dir.path() / "root/sub/b", "bb");
  write_file(dir.path() / "root/.hidden", "x");
  write_file(dir.path() / "blob", "linked");
  fs::create_symlink("../blob", dir.path() / "root/model.safetensors");
  fs::create_symlink("nowhere", dir.path() / "root/broken");
  fs::create_directory_symlink("..", dir.path() / "root/sub/up");
  auto opened = open_file_source(dir.path() / "root");
  ASSERT_TRUE(opened) << describe(opened.error());
  auto files = (*opened)->list();
  ASSERT_TRUE(files) << describe(files.error());
  ASSERT_GE(files->size(), 3u);
  EXPECT_EQ((*files)[0].path, "config.json");
  EXPECT_EQ((*files)[1].path, "model.safetensors");
  EXPECT_EQ((*files)[1].size_bytes, 6u);
  EXPECT_EQ((*files)[2].path, "sub/b");
}

TEST(file_source, reads_any_range_alike_by_stream_and_by_read) {
  temporary_directory dir;
  const auto content = pattern((size_t{3} << 20) + 17);
  write_file(dir.path() / "f", content);
  auto opened = open_file_source(dir.path());
  ASSERT_TRUE(opened);
  auto file = (*opened)->stat("f");
  ASSERT_TRUE(file);
  for (const byte_range range : {byte_range{0, content.size()},
                                 {1, 1},
                                 {content.size() - 5, 5},
                                 {(1u << 20) - 1, (1u << 20) + 2},
                                 {7, 0}}) {
    std::string streamed;
    const auto keep = [&](std::span<const std::byte> piece) -> caf::error {
      streamed += text_of(piece);
      return {};
    };
    EXPECT_FALSE((*opened)->stream(*file, range, keep));
    EXPECT_EQ(streamed, content.substr(range.offset, range.length));
    std::vector<std::byte> into(range.length);
    EXPECT_FALSE((*opened)->read(*file, range.offset, into));
    EXPECT_EQ(text_of(into), streamed);
  }
}

TEST(file_source, a_range_beyond_the_end_and_a_changed_file_are_errors_that_name_the_file) {
  temporary_directory dir;
  write_file(dir.path() / "f", "0123456789");
  auto opened = open_file_source(dir.path());
  auto file = (*opened)->stat("f");
  std::vector<std::byte> into(8);
  auto why = (*opened)->read(*file, 5, into);
  EXPECT_EQ(why, errc::short_read);
  EXPECT_NE(describe(why).find("/f: ends at byte 10"), std::string::npos) << describe(why);
  write_file(dir.path() / "f", "other, and longer");
  EXPECT_EQ((*opened)->read(*file, 0, into), errc::changed);
  fs::remove(dir.path() / "f");
  EXPECT_EQ((*opened)->read(*file, 0, into), errc::not_found);
}

TEST(file_source, a_stop_request_and_an_error_of_the_sink_end_a_stream) {
  temporary_directory dir;
  write_file(dir.path() / "f", pattern(size_t{4} << 20));
  auto opened = open_file_source(dir.path());
  auto file = (*opened)->stat("f");
  std::stop_source stopper;
  size_t pieces = 0;
  const auto stop_at_once = [&](std::span<const std::byte>) -> caf::error {
    ++pieces;
    stopper.request_stop();
    return {};
  };
  EXPECT_EQ((*opened)->stream(*file, {0, file->size_bytes}, stop_at_once, stopper.get_token()),
            errc::cancelled);
  EXPECT_EQ(pieces, 1u);
  const auto refuse = [](std::span<const std::byte>) {
    return caf::make_error(errc::no_space, "full");
  };
  EXPECT_EQ((*opened)->stream(*file, {0, file->size_bytes}, refuse), errc::no_space);
}

TEST(file_source, one_file_is_a_source_of_its_own) {
  temporary_directory dir;
  write_file(dir.path() / "a.bin", "abc");
  auto opened = open_file_source(dir.path() / "a.bin");
  ASSERT_TRUE(opened);
  auto files = (*opened)->list();
  ASSERT_TRUE(files);
  ASSERT_EQ(files->size(), 1u);
  EXPECT_EQ(files->front().path, "a.bin");
  EXPECT_EQ((*opened)->local_path(files->front()), dir.path() / "a.bin");
  EXPECT_EQ(open_file_source(dir.path() / "absent").error(), errc::not_found);
}

TEST(file_source, paths_that_lead_out_are_refused) {
  for (const auto* good : {"a", "a/b", "a..b", "...", "model-00001-of-00002.safetensors", "é"})
    EXPECT_TRUE(is_inner_path(good)) << good;
  for (const auto* bad : {"", "/a", "a/", "a//b", "..", "a/../b", "./a", "a/.", "a\\b", "a\nb"})
    EXPECT_FALSE(is_inner_path(bad)) << bad;
  temporary_directory dir;
  auto opened = open_file_source(dir.path());
  EXPECT_EQ((*opened)->stat("../x").error(), errc::malformed);
}

} // namespace
} // namespace troupe::storage
