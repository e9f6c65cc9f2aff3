#include "storage/pipeline/prefetch.hpp"

#include <thread>

#include "storage/pipeline/pooled_weights.hpp"
#include "storage/pipeline/tier_probe.hpp"
#include "storage/pipeline/tier_survey.hpp"
#include "tests/storage/pipeline/pipeline_fixture.hpp"

namespace troupe::storage {
namespace {

namespace fs = std::filesystem;
using test::small_chunk;
using test::text_of;

/// What a load would have to bring into the pool. Files that were just written lie in the page
/// cache.
uint64_t to_read(const tier_survey& x) { return x.disk + x.cached; }

/// Models of one tensor, of `chunks` chunks each.
class prefetch_test : public testing::Test {
protected:
  std::shared_ptr<const checkpoint> model(const std::string& name, uint32_t chunks, unsigned seed) {
    const auto bytes = chunks * small_chunk - 1024; // with its header it has so many chunks
    test::write_file(root_.path() / name / "model.safetensors",
                     test::safetensors(R"({"a":{"dtype":"U8","shape":[)" + std::to_string(bytes) +
                                           R"(],"data_offsets":[0,)" + std::to_string(bytes) +
                                           "]}}",
                                       text_of(bytes, seed)));
    auto out = checkpoint::open(root_.path() / name);
    EXPECT_TRUE(out) << describe(out.error());
    return *out;
  }
  /// A pool whose chunks are worth their heat.
  static std::shared_ptr<weight_tiers> tiers(uint32_t chunks) {
    weight_tiers_options options;
    options.pool.chunk_bytes = small_chunk;
    options.pool.size_bytes = uint64_t{chunks} * small_chunk;
    options.pool.worth = [](const chunk_use& x) { return x.heat; };
    options.map_cached_files = false;
    auto out = weight_tiers::open(options);
    EXPECT_TRUE(out) << describe(out.error());
    return *out;
  }
  static std::unique_ptr<prefetch> start(weight_tiers& into, const checkpoint& files,
                                         double worth) {
    auto out = prefetch::start(into, files, {"a"}, worth, std::chrono::steady_clock::now());
    EXPECT_TRUE(out) << describe(out.error());
    return out ? std::move(*out) : nullptr;
  }
  static void finish(const prefetch& work) {
    while (!work.is_over())
      std::this_thread::yield();
  }

  test::temporary_directory root_;
};

TEST_F(prefetch_test, what_was_prefetched_is_found_by_the_load_and_nothing_is_held) {
  const auto into = tiers(64);
  const auto files = model("m", 8, 1);
  const auto before = survey(*into, *files, {"a"});
  EXPECT_EQ(before.pool, 0u);
  EXPECT_GT(to_read(before), 7 * small_chunk);
  const auto work = start(*into, *files, 1);
  ASSERT_TRUE(work);
  finish(*work);
  EXPECT_EQ(into->pool().usage().leased_bytes, 0u);
  const auto after = survey(*into, *files, {"a"});
  EXPECT_EQ(to_read(after), 0u);
  EXPECT_EQ(after.pool, to_read(before));
  const auto load = pooled_weights::start(into, files, {{"a"}});
  ASSERT_TRUE(load && *load);
  EXPECT_FALSE((*load)->wait("a", (*load)->find("a")->bytes.size()));
  EXPECT_EQ((*load)->counts().disk_bytes, 0u);
  EXPECT_FALSE(start(*into, *files, 1)) << "it is there";
}

TEST_F(prefetch_test, only_what_is_worth_less_than_half_makes_room) {
  const auto into = tiers(16);
  const auto held = model("held", 12, 1), wanted = model("wanted", 8, 2);
  finish(*start(*into, *held, 1)); // chunks of heat 1
  EXPECT_FALSE(start(*into, *wanted, 1.9));
  const auto work = start(*into, *wanted, 2.1);
  ASSERT_TRUE(work);
  finish(*work);
  EXPECT_EQ(to_read(survey(*into, *wanted, {"a"})), 0u);
}

TEST_F(prefetch_test, what_a_loaded_model_uses_never_makes_room) {
  const auto into = tiers(48);
  const auto used = model("used", 10, 1), wanted = model("wanted", 12, 2);
  const auto load = pooled_weights::start(into, used, {{"a"}});
  ASSERT_TRUE(load && *load);
  EXPECT_FALSE((*load)->wait("a", (*load)->find("a")->bytes.size()));
  EXPECT_FALSE(start(*into, *model("larger", 40, 3), 1e9));
  const auto work = start(*into, *wanted, 1e9);
  ASSERT_TRUE(work);
  finish(*work);
  EXPECT_EQ(to_read(survey(*into, *used, {"a"})), 0u);
}

TEST_F(prefetch_test, ending_it_half_way_leaves_nothing_behind_that_is_in_use) {
  const auto into = tiers(512);
  const auto files = model("m", 400, 1);
  { const auto work = start(*into, *files, 1); }
  auto load = pooled_weights::start(into, files, {{"a"}});
  ASSERT_TRUE(load && *load);
  EXPECT_FALSE((*load)->wait("a", (*load)->find("a")->bytes.size()));
  load->reset();
  while (into->pool().usage().leased_bytes != 0)
    std::this_thread::yield();
}

TEST_F(prefetch_test, a_survey_foresees_what_loads_before_it_push_out) {
  const auto into = tiers(24);
  const auto older = model("older", 5, 1), wanted = model("wanted", 8, 2),
             other = model("o", 18, 3);
  finish(*start(*into, *older, 1));
  finish(*start(*into, *wanted, 1));
  const auto all = survey(*into, *wanted, {"a"}).pool;
  EXPECT_EQ(survey(*into, *wanted, {"a"}, 11 * small_chunk).pool, all) << "there is room";
  const auto foreseen = survey(*into, *wanted, {"a"}, 18 * small_chunk);
  EXPECT_GT(to_read(foreseen), 0u);
  EXPECT_GT(foreseen.pool, 0u);
  const auto load = pooled_weights::start(into, other, {{"a"}});
  ASSERT_TRUE(load && *load);
  EXPECT_FALSE((*load)->wait("a", (*load)->find("a")->bytes.size()));
  const auto then = survey(*into, *wanted, {"a"});
  EXPECT_EQ(to_read(foreseen), to_read(then));
  EXPECT_EQ(foreseen.pool, then.pool);
}

TEST_F(prefetch_test, a_survey_foresees_that_what_is_worth_more_than_what_comes_stays) {
  const auto into = tiers(24);
  const auto older = model("older", 5, 1), wanted = model("wanted", 8, 2),
             other = model("o", 18, 3);
  finish(*start(*into, *older, 1));
  for (int use = 0; use < 2; ++use) {
    const auto load = pooled_weights::start(into, wanted, {{"a"}});
    ASSERT_TRUE(load && *load);
    EXPECT_FALSE((*load)->wait("a", (*load)->find("a")->bytes.size()));
  }
  EXPECT_EQ(to_read(survey(*into, *wanted, {"a"}, 18 * small_chunk)), 0u);
  finish(*start(*into, *other, 10)); // holds nothing, so that its own chunks may go, too
  EXPECT_EQ(to_read(survey(*into, *wanted, {"a"})), 0u);
}

TEST_F(prefetch_test, what_the_page_cache_has_is_told_from_what_the_disk_gives) {
  const auto into = tiers(64);
  const auto files = model("m", 8, 1);
  const auto file = disk_file::open(root_.path() / "m" / "model.safetensors");
  ASSERT_TRUE(file);
  if (!(*file)->is_cached(0, (*file)->size_bytes()))
    GTEST_SKIP() << "this kernel does not tell";
  const auto foreseen = survey(*into, *files, {"a"});
  EXPECT_EQ(foreseen.disk, 0u);
  EXPECT_GT(foreseen.cached, 7 * small_chunk);
  const auto load = pooled_weights::start(into, files, {{"a"}});
  ASSERT_TRUE(load && *load);
  EXPECT_FALSE((*load)->wait("a", (*load)->find("a")->bytes.size()));
  EXPECT_EQ((*load)->counts().cached_bytes, foreseen.cached);
  EXPECT_EQ((*load)->counts().disk_bytes, foreseen.cached);
}

TEST_F(prefetch_test, a_survey_counts_as_no_use) {
  const auto into = tiers(64);
  const auto files = model("m", 8, 1);
  finish(*start(*into, *files, 1));
  const auto before = into->pool().usage();
  survey(*into, *files, {"a"});
  EXPECT_EQ(into->pool().usage().hits, before.hits);
  EXPECT_EQ(into->pool().usage().misses, before.misses);
  const auto mapped = survey_mapped(*files);
  EXPECT_EQ(mapped.cached + mapped.paged, fs::file_size(root_.path() / "m" / "model.safetensors"));
}

TEST_F(prefetch_test, a_probe_measures_memory_and_makes_do_without_a_file) {
  const auto into = tiers(4);
  const auto rates = probe_tiers(into->reader(), root_.path() / "missing");
  EXPECT_EQ(rates.disk, 0);
  EXPECT_GT(rates.memory, 1e6);
}

} // namespace
} // namespace troupe::storage
