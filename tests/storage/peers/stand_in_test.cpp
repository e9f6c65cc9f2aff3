#include "storage/peers/stand_in.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gmock/gmock.h>

#include "storage/errors.hpp"
#include "tests/storage/peers/peer_fixture.hpp"

namespace troupe::storage {
namespace {

using test::model_on_disk;
using test::serving_node;
using test::small_chunk;
using test::temporary_directory;
using test::tiers_with;

/// The one tensor of a model, loaded as the engine does.
caf::expected<std::string> tensor_of(const std::shared_ptr<weight_tiers>& tiers,
                                     const std::filesystem::path& path,
                                     std::shared_ptr<const weight_origins> from) {
  const auto files = checkpoint::open(path);
  if (!files)
    return files.error();
  const auto names = (*files)->names();
  const auto weights = pooled_weights::start(tiers, *files, {.names = names, .from = from});
  if (!weights)
    return weights.error();
  if (*weights == nullptr)
    return caf::make_error(errc::unsupported, "not through the pool");
  const auto tensor = (*weights)->find(names.front());
  if (auto why = (*weights)->wait(names.front(), tensor->bytes.size()))
    return why;
  std::string out{reinterpret_cast<const char*>(tensor->bytes.data()), tensor->bytes.size()};
  // Checksums are recorded when the load is over.
  for (pooled_weights::state now; !now.over;)
    now = (*weights)->follow(now.bytes);
  return out;
}

std::string tensor_in(const model_on_disk& model, size_t bytes) {
  return model.content().substr(model.content().size() - bytes);
}

struct stand_in_test : testing::Test {
  static constexpr size_t bytes = 50 * small_chunk + 7;
  const model_on_disk model{bytes};
  const temporary_directory home;
  serving_node node;
  peer_links links;
  std::shared_ptr<std::atomic<uint64_t>> received = std::make_shared<std::atomic<uint64_t>>(0);
  std::vector<peer_file> files;

  void SetUp() override {
    node.models->offer("/m", model.path());
    files = *list_at_peer(links, node.at(), "/m");
  }
  std::filesystem::path make() {
    const auto path = make_stand_in(links, node.at(), "/m", files, home.path());
    EXPECT_TRUE(path) << describe(path.error());
    return *path;
  }
  std::shared_ptr<const weight_origins> from(const std::vector<host_port>& holders,
                                             const std::filesystem::path& at) {
    return origins_of(links, "/m", files, {.holders = holders, .together = {}}, at, small_chunk,
                      received);
  }
};

TEST_F(stand_in_test, opens_as_the_model_takes_no_room_and_its_weights_come_from_the_holder) {
  const auto path = make();
  struct stat info {};
  ASSERT_EQ(::stat((path / "model.safetensors").c_str(), &info), 0);
  EXPECT_EQ(static_cast<size_t>(info.st_size), model.content().size());
  EXPECT_LE(info.st_blocks * 512, 8192);
  const auto tiers = tiers_with(64);
  const auto got = tensor_of(tiers, path, from({node.at()}, path));
  ASSERT_TRUE(got) << describe(got.error());
  EXPECT_TRUE(*got == tensor_in(model, bytes));
  EXPECT_EQ(*received, model.content().size());
  // Once more: the pool has them.
  const auto again = tensor_of(tiers, path, from({node.at()}, path));
  EXPECT_TRUE(again && *again == *got);
  EXPECT_EQ(*received, model.content().size());
}

TEST_F(stand_in_test, is_made_once_for_the_same_content) {
  const auto path = make();
  const auto sent = node.server->sent_bytes();
  EXPECT_EQ(make(), path);
  EXPECT_EQ(node.server->sent_bytes(), sent);
}

TEST_F(stand_in_test, what_was_received_is_given_on) {
  const auto path = make();
  const auto tiers = tiers_with(64);
  serving_node second{tiers};
  second.models->offer_received("/m", path, files);
  ASSERT_TRUE(tensor_of(tiers, path, from({node.at()}, path)));
  const auto listed = list_at_peer(links, second.at(), "/m");
  ASSERT_TRUE(listed);
  EXPECT_EQ(listed->size(), files.size());
  node.server.reset();
  const temporary_directory other;
  const auto third = make_stand_in(links, second.at(), "/m", *listed, other.path());
  ASSERT_TRUE(third) << describe(third.error());
  const auto got = tensor_of(tiers_with(64), *third, from({second.at()}, *third));
  ASSERT_TRUE(got) << describe(got.error());
  EXPECT_TRUE(*got == tensor_in(model, bytes));
}

TEST_F(stand_in_test, a_holder_from_before_the_checksums_were_known_has_the_same_bytes) {
  const temporary_directory sums;
  serving_node first{tiers_with(64), 0, sums.path()};
  first.models->offer("/m", model.path());
  files = *list_at_peer(links, first.at(), "/m");
  const auto path = *make_stand_in(links, first.at(), "/m", files, home.path());
  const auto tiers = tiers_with(64);
  serving_node second{tiers};
  second.models->offer_received("/m", path, files);
  ASSERT_TRUE(tensor_of(tiers, path, from({first.at()}, path)));
  // The first has sent, and so seen, all chunks.
  const auto before = files;
  files = *list_at_peer(links, first.at(), "/m");
  ASSERT_NE(files.back().version, before.back().version);
  const auto got = tensor_of(tiers_with(64), path, from({second.at()}, path));
  ASSERT_TRUE(got) << describe(got.error());
  EXPECT_TRUE(*got == tensor_in(model, bytes));
}

TEST_F(stand_in_test, a_pool_without_room_is_an_error_and_nothing_is_mapped) {
  const auto path = make();
  const auto tiers = tiers_with(8);
  ASSERT_TRUE(tiers->pool().reserve(3));
  const auto got = tensor_of(tiers, path, from({node.at()}, path));
  ASSERT_FALSE(got);
  EXPECT_TRUE(got.error() == errc::no_memory);
  EXPECT_THAT(describe(got.error()), testing::HasSubstr("storage.pool_memory"));
}

TEST_F(stand_in_test, holders_help_a_disk_whose_checksums_are_recorded) {
  const temporary_directory sums;
  const model_on_disk changed{bytes, 9};
  serving_node other;
  other.models->offer("/m", changed.path());
  const auto beside = [&](const host_port& at) {
    return origins_beside(links, "/m", *list_at_peer(links, at, "/m"), {at}, model.path(),
                          small_chunk, received);
  };
  // Nobody could tell whether theirs is the same.
  auto got = tensor_of(tiers_with(64, sums.path()), model.path(), beside(node.at()));
  ASSERT_TRUE(got) << describe(got.error());
  EXPECT_EQ(*received, 0u);
  // Another content under the same name costs a try.
  got = tensor_of(tiers_with(64, sums.path()), model.path(), beside(other.at()));
  ASSERT_TRUE(got) << describe(got.error());
  EXPECT_TRUE(*got == tensor_in(model, bytes));
  EXPECT_EQ(*received, 0u);
  // Nor does anybody help with what is in the page cache.
  got = tensor_of(tiers_with(64, sums.path()), model.path(), beside(node.at()));
  ASSERT_TRUE(got) << describe(got.error());
  EXPECT_TRUE(*got == tensor_in(model, bytes));
  const auto file = disk_file::open(model.path() / "model.safetensors");
  ASSERT_TRUE(file);
  EXPECT_EQ(*received > 0, !(*file)->is_cached(0, (*file)->size_bytes()));
  ASSERT_EQ(::fsync((*file)->buffered_fd()), 0);
  ::posix_fadvise((*file)->buffered_fd(), 0, 0, POSIX_FADV_DONTNEED);
  if ((*file)->is_cached(0, (*file)->size_bytes()))
    GTEST_SKIP() << "the temporary directory is in memory";
  got = tensor_of(tiers_with(64, sums.path()), model.path(), beside(node.at()));
  ASSERT_TRUE(got) << describe(got.error());
  EXPECT_TRUE(*got == tensor_in(model, bytes));
  EXPECT_GT(*received, 0u);
}

TEST(stand_in, a_gguf_model_keeps_its_name) {
  const std::filesystem::path file{TROUPE_SOURCE_DIR
                                   "/tests/golden/gguf_models/split-00001-of-00003.gguf"};
  serving_node node;
  node.models->offer(file.string(), file);
  peer_links links;
  const temporary_directory home;
  const auto files = list_at_peer(links, node.at(), file.string());
  ASSERT_TRUE(files) << describe(files.error());
  const auto path = make_stand_in(links, node.at(), file.string(), *files, home.path());
  ASSERT_TRUE(path) << describe(path.error());
  EXPECT_EQ(path->filename(), file.filename());
  const auto mine = checkpoint::open(*path), theirs = checkpoint::open(file);
  ASSERT_TRUE(mine) << describe(mine.error());
  EXPECT_EQ((*mine)->names(), (*theirs)->names());
}

} // namespace
} // namespace troupe::storage
