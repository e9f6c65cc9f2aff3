#include <random>
#include <thread>

#include "storage/pipeline/pooled_weights.hpp"
#include "tests/storage/pipeline/pipeline_fixture.hpp"

/// Models that are larger than the pool.
namespace troupe::storage {
namespace {

using test::small_chunk;
using test::text_of;

constexpr uint32_t pool_chunks = 24;

/// A model of many tensors in one file, eight times the pool of most tests here.
class pass_through : public testing::Test {
protected:
  pass_through() {
    std::mt19937 random{7};
    std::string header = "{";
    uint64_t at = 0;
    for (int i = 0; at < 8 * pool_chunks * small_chunk; ++i) {
      const auto size = 1 + random() % 30000;
      names.push_back("t" + std::to_string(i));
      header += (i ? ",\"" : "\"") + names.back() + R"(":{"dtype":"U8","shape":[)" +
                std::to_string(size) + R"(],"data_offsets":[)" + std::to_string(at) + "," +
                std::to_string(at + size) + "]}";
      at += size;
    }
    test::write_file(root.path() / "model" / "model.safetensors",
                     test::safetensors(header + "}", text_of(at, 3)));
    auto opened = checkpoint::open(root.path() / "model");
    EXPECT_TRUE(opened) << describe(opened.error());
    files = *opened;
  }

  std::shared_ptr<weight_tiers> tiers(uint32_t chunks) const {
    weight_tiers_options options;
    options.pool.chunk_bytes = small_chunk;
    options.pool.size_bytes = uint64_t{chunks} * small_chunk;
    options.checksums = root.path() / "sums";
    options.map_cached_files = false;
    auto out = weight_tiers::open(options);
    EXPECT_TRUE(out) << describe(out.error());
    return *out;
  }

  /// Goes through all tensors as a binder does, in steps of `step` bytes.
  void consume(pooled_weights& weights, uint64_t step) const {
    for (const auto& name : names) {
      const auto found = *weights.find(name);
      const auto expected = *files->find(name);
      for (uint64_t at = 0; at < found.bytes.size(); at += step) {
        const auto count = std::min(step, found.bytes.size() - at);
        const auto why = weights.wait(name, at + count);
        ASSERT_FALSE(why) << describe(why);
        ASSERT_TRUE(std::equal(found.bytes.begin() + static_cast<std::ptrdiff_t>(at),
                               found.bytes.begin() + static_cast<std::ptrdiff_t>(at + count),
                               expected.bytes.begin() + static_cast<std::ptrdiff_t>(at)))
            << name;
        weights.release(name, at + count);
      }
    }
  }

  test::temporary_directory root;
  std::vector<std::string> names;
  std::shared_ptr<const checkpoint> files;
};

TEST_F(pass_through, a_model_larger_than_the_pool_is_read_as_it_is_used) {
  const auto tiers = this->tiers(pool_chunks);
  for (int round = 0; round < 3; ++round) {
    const auto weights = pooled_weights::start(tiers, files, {.names = names});
    ASSERT_TRUE(weights && *weights);
    EXPECT_TRUE((*weights)->pass_through());
    consume(**weights, 10000);
    pooled_weights::state end;
    while (!end.over)
      end = (*weights)->follow(end.bytes);
    EXPECT_FALSE(end.why);
    EXPECT_EQ(end.bytes, (*weights)->total_bytes());
    EXPECT_EQ(tiers->pool().usage().leased_bytes, 0u);
  }
}

TEST_F(pass_through, nothing_is_read_that_the_pool_has_no_place_for) {
  const auto tiers = this->tiers(pool_chunks);
  const auto weights = pooled_weights::start(tiers, files, {.names = names});
  ASSERT_TRUE(weights && *weights);
  EXPECT_FALSE((*weights)->wait(names.front(), 1));
  EXPECT_LE(tiers->pool().usage().leased_bytes, (pool_chunks - 4) * small_chunk);
  (*weights)->cancel(); // and nobody hangs
}

TEST_F(pass_through, several_at_once_get_through_a_pool_that_holds_neither) {
  const auto tiers = this->tiers(3 * pool_chunks);
  std::vector<std::jthread> users;
  for (const uint64_t step : {3000, 50000})
    users.emplace_back([&, step] {
      for (int round = 0; round < 3; ++round) {
        const auto weights = pooled_weights::start(tiers, files, {.names = names});
        ASSERT_TRUE(weights && *weights);
        consume(**weights, step);
      }
    });
  users.clear();
  EXPECT_EQ(tiers->pool().usage().leased_bytes, 0u);
}

TEST_F(pass_through, tensors_that_are_needed_in_another_order_need_a_pool_for_all) {
  EXPECT_FALSE(
      *pooled_weights::start(tiers(pool_chunks), files, {.names = names, .in_order = false}));
}

TEST(working_set, is_what_a_step_spans_and_what_is_needed_again_later) {
  constexpr uint64_t chunk = 10;
  // In order, one chunk each.
  const std::vector<planned_range> straight{{0, 0, 10}, {0, 10, 10}, {0, 20, 10}, {0, 30, 10}};
  EXPECT_EQ(working_set(straight, chunk, 1), 2u);
  EXPECT_EQ(working_set(straight, chunk, 20), 3u);
  EXPECT_EQ(working_set(straight, chunk, UINT64_MAX), 4u);
  // The last one shares the chunk of the first.
  const std::vector<planned_range> again{{0, 0, 5}, {0, 10, 10}, {0, 20, 10}, {0, 5, 5}};
  EXPECT_EQ(working_set(again, chunk, 1), 3u);
  EXPECT_EQ(working_set({}, chunk, 1), 0u);
}

} // namespace
} // namespace troupe::storage
