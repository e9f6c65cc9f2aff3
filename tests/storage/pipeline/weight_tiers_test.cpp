#include "storage/pipeline/mapped_check.hpp"
#include "storage/pipeline/pooled_weights.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <thread>

#include "tests/storage/pipeline/pipeline_fixture.hpp"
#include "tests/storage/pool/fake_pinner.hpp"

namespace troupe::storage {
namespace {

namespace fs = std::filesystem;
using test::small_chunk;
using test::text_of;

/// A model of two shards; tensors of sizes and places that fit no chunk.
class weight_tiers_test : public testing::Test {
protected:
  weight_tiers_test() {
    test::write_file(
        dir() / "one.safetensors",
        test::safetensors(R"({"a":{"dtype":"U8","shape":[20001],"data_offsets":[0,20001]},)"
                          R"("b":{"dtype":"F8_E4M3","shape":[3],"data_offsets":[20001,20004]}})",
                          text_of(20004, 1)));
    test::write_file(
        dir() / "two.safetensors",
        test::safetensors(R"({"c":{"dtype":"BF16","shape":[5000],"data_offsets":[0,10000]},)"
                          R"("d":{"dtype":"U8","shape":[0],"data_offsets":[10000,10000]},)"
                          R"("e":{"dtype":"I32","shape":[8192],"data_offsets":[10000,42768]}})",
                          text_of(42768, 2)));
    test::write_file(dir() / "model.safetensors.index.json",
                     R"({"weight_map":{"a":"one.safetensors","b":"one.safetensors",)"
                     R"("c":"two.safetensors","d":"two.safetensors","e":"two.safetensors"}})");
  }
  fs::path dir() const { return root_.path() / "model"; }

  std::shared_ptr<weight_tiers> tiers(uint32_t chunks, const fs::path& pool = {},
                                      bool map_cached_files = false) {
    weight_tiers_options options;
    options.pool.path = pool;
    options.pool.chunk_bytes = small_chunk;
    options.pool.size_bytes = uint64_t{chunks} * small_chunk;
    options.checksums = root_.path() / "sums";
    options.map_cached_files = map_cached_files;
    auto out = weight_tiers::open(options);
    EXPECT_TRUE(out) << describe(out.error());
    return *out;
  }
  std::shared_ptr<const checkpoint> open() {
    auto out = checkpoint::open(dir());
    EXPECT_TRUE(out) << describe(out.error());
    return *out;
  }
  /// Changes a byte of the second shard and keeps its date, as a failing disk does.
  void damage(uint64_t offset) {
    const auto path = dir() / "two.safetensors";
    const int fd = ::open(path.c_str(), O_RDWR);
    struct stat info {};
    ::fstat(fd, &info);
    char byte = 0;
    ASSERT_EQ(::pread(fd, &byte, 1, static_cast<off_t>(offset)), 1);
    byte = static_cast<char>(byte ^ 4);
    ASSERT_EQ(::pwrite(fd, &byte, 1, static_cast<off_t>(offset)), 1);
    const struct timespec times[] = {info.st_atim, info.st_mtim};
    ::futimens(fd, times);
    ::close(fd);
  }
  /// Where a load has ended.
  static pooled_weights::state end_of(const pooled_weights& weights) {
    pooled_weights::state out;
    while (!out.over)
      out = weights.follow(out.bytes);
    return out;
  }
  static void expect_same(const pooled_weights& weights, const checkpoint& files,
                          const std::vector<std::string>& names) {
    for (const auto& name : names) {
      const auto found = weights.find(name);
      const auto mapped = files.find(name);
      ASSERT_TRUE(found && mapped) << name;
      EXPECT_EQ(found->type, mapped->type);
      EXPECT_TRUE(std::equal(found->bytes.begin(), found->bytes.end(), mapped->bytes.begin(),
                             mapped->bytes.end()))
          << name;
      if (!found->bytes.empty()) {
        EXPECT_NE(found->bytes.data(), mapped->bytes.data());
      }
    }
  }

  test::temporary_directory root_;
};

TEST_F(weight_tiers_test, tensors_in_the_pool_are_those_of_the_files) {
  const auto tiers = this->tiers(32);
  const auto files = open();
  const auto weights =
      pooled_weights::start(tiers, files, {{"c", "a", "missing", "d", "e", "b", "a"}});
  ASSERT_TRUE(weights && *weights);
  EXPECT_FALSE((*weights)->wait("c", 1));
  EXPECT_EQ((*weights)->find("c")->bytes[0], files->find("c")->bytes[0]);
  EXPECT_FALSE((*weights)->wait("c", files->find("c")->bytes.size()));
  expect_same(**weights, *files, {"c"});
  const auto now = end_of(**weights);
  EXPECT_FALSE(now.why);
  EXPECT_EQ(now.bytes, (*weights)->total_bytes());
  expect_same(**weights, *files, {"a", "b", "c", "d", "e"});
  EXPECT_FALSE((*weights)->find("missing"));
}

TEST_F(weight_tiers_test, tensors_that_nobody_asked_for_are_not_loaded) {
  const auto tiers = this->tiers(32);
  const auto weights = pooled_weights::start(tiers, open(), {{"b"}});
  ASSERT_TRUE(weights && *weights);
  EXPECT_FALSE(end_of(**weights).why);
  EXPECT_EQ((*weights)->total_bytes(), fs::file_size(dir() / "one.safetensors") % small_chunk);
  EXPECT_FALSE((*weights)->find("a"));
}

TEST_F(weight_tiers_test, loaded_models_keep_their_chunks_and_unloaded_ones_leave_them_behind) {
  const auto pool = root_.path() / "pool";
  const auto files = open();
  const std::vector<std::string> names{"a", "b", "c", "d", "e"};
  for (int start = 0; start < 2; ++start) {
    const auto tiers = this->tiers(16, pool);
    auto weights = pooled_weights::start(tiers, files, {names});
    ASSERT_TRUE(weights && *weights);
    EXPECT_FALSE(end_of(**weights).why);
    expect_same(**weights, *files, names);
    EXPECT_EQ(tiers->pool().usage().leased_bytes, (*weights)->total_bytes());
    EXPECT_EQ(tiers->pool().usage().reattached, start == 0 ? 0 : tiers->pool().usage().hits);
    weights->reset();
    EXPECT_EQ(tiers->pool().usage().leased_bytes, 0u);
  }
}

TEST_F(weight_tiers_test, cached_files_are_mapped_unless_a_pinned_pool_holds_them) {
  const auto pool = root_.path() / "pool";
  const auto files = open();
  const std::vector<std::string> names{"a", "b", "c", "e"};
  {
    const auto first = pooled_weights::start(tiers(16, pool), files, {names});
    ASSERT_TRUE(first && *first);
    EXPECT_FALSE(end_of(**first).why);
  }
  const auto pinner = std::make_shared<test::fake_pinner>();
  const auto tiers = this->tiers(16, pool, true);
  const auto mapped = pooled_weights::start(tiers, files, {names});
  ASSERT_TRUE(mapped);
  if (*mapped)
    GTEST_SKIP() << "what was just written is not in the page cache here";
  tiers->pool().pin(pinner, UINT64_MAX, {});
  while (!tiers->pool().pins())
    std::this_thread::yield();
  const auto pooled = pooled_weights::start(tiers, files, {names});
  ASSERT_TRUE(pooled && *pooled);
  EXPECT_FALSE(end_of(**pooled).why);
  EXPECT_EQ((*pooled)->counts().disk_bytes, 0u);
  expect_same(**pooled, *files, names);
}

TEST_F(weight_tiers_test, addresses_for_devices_are_those_of_the_same_bytes) {
  const auto pinner = std::make_shared<test::fake_pinner>();
  const auto tiers = this->tiers(16);
  const auto files = open();
  const std::vector<std::string> names{"a", "b", "c", "e"};
  tiers->pool().pin(pinner, 5 * small_chunk, {});
  for (int load = 0; load < 2; ++load) {
    const auto weights = *pooled_weights::start(tiers, files, {names});
    ASSERT_TRUE(weights);
    EXPECT_FALSE(end_of(*weights).why);
    uint64_t direct = 0;
    for (const auto& name : names) {
      const auto bytes = weights->find(name)->bytes;
      for (uint64_t at = 0; at < bytes.size();) {
        const auto run = weights->pinned(bytes.data() + at, bytes.size() - at);
        ASSERT_GT(run.size_bytes, 0u);
        ASSERT_LE(at + run.size_bytes, bytes.size());
        if (run.pinned != nullptr) {
          const auto read = pinner->begin_read(run.pinned, run.size_bytes);
          pinner->end_read(run.pinned);
          EXPECT_TRUE(std::equal(read.begin(), read.end(), bytes.begin() + at));
          direct += run.size_bytes;
        }
        at += run.size_bytes;
      }
    }
    if (load == 1) {
      EXPECT_GT(direct, 3 * small_chunk);
    }
    const std::byte elsewhere[3] = {};
    EXPECT_EQ(weights->pinned(elsewhere, 3).pinned, nullptr);
    EXPECT_EQ(weights->pinned(elsewhere, 3).size_bytes, 3u);
    weights->release("a", files->find("a")->bytes.size());
    if (load == 0)
      pinner->wait_for(5);
  }
}

TEST_F(weight_tiers_test, a_model_that_does_not_fit_beside_others_is_to_be_mapped) {
  const auto tiers = this->tiers(16);
  const auto files = open();
  auto first = pooled_weights::start(tiers, files, {{"a", "c", "e"}});
  ASSERT_TRUE(first && *first);
  const auto second = pooled_weights::start(tiers, files, {{"a", "c", "e"}});
  ASSERT_TRUE(second);
  EXPECT_FALSE(*second);
  first->reset();
  const auto third = pooled_weights::start(tiers, files, {{"a", "c", "e"}});
  ASSERT_TRUE(third && *third);
  EXPECT_FALSE(end_of(**third).why);
}

TEST_F(weight_tiers_test, chunks_go_when_none_of_their_tensors_is_needed) {
  const auto tiers = this->tiers(16);
  const auto files = open();
  const auto weights = *pooled_weights::start(tiers, files, {{"a", "b", "c", "e"}});
  ASSERT_TRUE(weights);
  EXPECT_FALSE(end_of(*weights).why);
  const auto leased = [&] { return tiers->pool().usage().leased_bytes; };
  const auto all = leased();
  weights->release("a", files->find("a")->bytes.size());
  EXPECT_EQ(all - leased(), 2 * small_chunk) << "b shares the last chunk of a";
  weights->release("c", files->find("c")->bytes.size());
  EXPECT_EQ(all - leased(), 3 * small_chunk) << "e begins in the second chunk of c";
  expect_same(*weights, *files, {"b", "e"});
  weights->release("b", files->find("b")->bytes.size());
  weights->release("e", files->find("e")->bytes.size());
  EXPECT_EQ(leased(), 0u);
}

TEST_F(weight_tiers_test, what_was_let_go_can_be_set_aside_for_others) {
  const auto tiers = this->tiers(16);
  const auto files = open();
  const std::vector<std::string> names{"a", "c", "e"};
  const auto first = *pooled_weights::start(tiers, files, {names});
  ASSERT_TRUE(first);
  EXPECT_FALSE(end_of(*first).why);
  for (const auto& name : names)
    first->release(name, files->find(name)->bytes.size());
  const auto second = pooled_weights::start(tiers, files, {names});
  ASSERT_TRUE(second && *second) << "still held";
  EXPECT_FALSE(end_of(**second).why);
}

TEST_F(weight_tiers_test, whoever_waits_for_a_tensor_can_give_up) {
  const auto tiers = this->tiers(16);
  const auto weights = *pooled_weights::start(tiers, open(), {{"a"}});
  ASSERT_TRUE(weights);
  std::stop_source stop;
  stop.request_stop();
  (void)weights->wait("a", 1, stop.get_token());
}

TEST_F(weight_tiers_test, a_load_can_be_left_at_any_moment) {
  const auto tiers = this->tiers(16);
  const auto files = open();
  for (int round = 0; round < 50; ++round) {
    auto weights = pooled_weights::start(tiers, files, {{"a", "b", "c", "d", "e"}});
    ASSERT_TRUE(weights && *weights);
    if (round % 3 == 1)
      (*weights)->follow(static_cast<uint64_t>(round % 5) * 4096);
    if (round % 3 == 2)
      (*weights)->cancel();
    weights->reset();
    ASSERT_EQ(tiers->pool().usage().leased_bytes, 0u);
  }
}

TEST_F(weight_tiers_test, a_damaged_shard_ends_the_load_and_is_refused_afterwards) {
  const auto names = std::vector<std::string>{"a", "b", "c", "e"};
  {
    const auto weights = pooled_weights::start(tiers(16), open(), {names});
    ASSERT_TRUE(weights && *weights);
    EXPECT_FALSE(end_of(**weights).why);
  }
  damage(30000);
  const auto weights = pooled_weights::start(tiers(16), open(), {names});
  ASSERT_TRUE(weights && *weights);
  const auto why = end_of(**weights).why;
  EXPECT_TRUE(why == errc::corrupted);
  EXPECT_NE(describe(why).find("two.safetensors: at byte 24576 "), std::string::npos)
      << describe(why);
  const auto refused = pooled_weights::start(tiers(16), open(), {names});
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error() == errc::corrupted);
}

TEST_F(weight_tiers_test, mapped_files_are_verified_too) {
  const auto tiers = this->tiers(16);
  uint64_t last = 0, total = 0;
  const auto progress = [&](uint64_t done, uint64_t all) {
    EXPECT_GE(done, last);
    last = done, total = all;
    return true;
  };
  EXPECT_FALSE(warm_verified(*tiers, *open(), progress));
  EXPECT_GT(total, 60000u);
  EXPECT_EQ(last, total);
  damage(20480 + 3000);
  last = 0;
  auto why = warm_verified(*tiers, *open(), progress);
  EXPECT_TRUE(why == errc::corrupted) << describe(why);
  EXPECT_NE(describe(why).find("two.safetensors: at byte 16384 "), std::string::npos)
      << describe(why);
  last = 0;
  why = warm_verified(*tiers, *open(), progress);
  EXPECT_TRUE(why == errc::corrupted);
}

TEST_F(weight_tiers_test, a_walk_over_mapped_files_can_be_stopped) {
  const auto tiers = this->tiers(16);
  for (const int calls : {0, 1})
    EXPECT_TRUE(warm_verified(*tiers, *open(), [left = calls](uint64_t, uint64_t) mutable {
                  return left-- > 0;
                }) == errc::cancelled);
}

TEST_F(weight_tiers_test, files_in_the_page_cache_are_to_be_mapped) {
  const auto files = open();
  weight_tiers_options options;
  options.pool.size_bytes = 16 * small_chunk;
  options.pool.chunk_bytes = small_chunk;
  const auto tiers = weight_tiers::open(options);
  ASSERT_TRUE(tiers);
  const auto file = disk_file::open(dir() / "two.safetensors");
  ASSERT_TRUE(file);
  if (!(*file)->is_cached(0, (*file)->size_bytes()))
    GTEST_SKIP() << "this kernel does not tell";
  const auto weights = pooled_weights::start(*tiers, files, {{"c"}});
  ASSERT_TRUE(weights);
  EXPECT_FALSE(*weights);
}

} // namespace
} // namespace troupe::storage
