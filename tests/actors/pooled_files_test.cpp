#include "actors/pooled_files.hpp"

#include <filesystem>
#include <fstream>
#include <random>

#include <gtest/gtest.h>

#include "actors/model_files.hpp"
#include "actors/node.hpp"
#include "engine/frontend/frontend.hpp"
#include "gpu/device.hpp"
#include "storage/errors.hpp"
#include "tests/storage/model_files.hpp"

namespace troupe::actors {
namespace {

namespace fs = std::filesystem;

const fs::path models = fs::path{TROUPE_SOURCE_DIR} / "tests" / "golden" / "models";

std::shared_ptr<storage::weight_tiers> small_tiers(const fs::path& checksums = {}) {
  storage::weight_tiers_options options;
  options.checksums = checksums;
  options.pool.chunk_bytes = 4096;
  options.pool.size_bytes = 64u << 20;
  options.map_cached_files = false;
  auto out = storage::weight_tiers::open(options);
  EXPECT_TRUE(out) << describe(out.error());
  return *out;
}

bool keep_going(uint64_t, uint64_t) { return true; }

/// What an engine over these weights says first, or why it says nothing.
caf::expected<std::vector<engine::token_id>> try_tokens(const opened_model& x,
                                                        gpu::device& device) {
  if (x.why)
    return x.why;
  engine::engine_options options;
  auto made = engine::engine::create(*x.config, x.lookup, x.keep_alive, device, options);
  if (!made)
    return made.error();
  if (x.arriving)
    (*made)->expect_weights(x.arriving);
  engine::sequence_request request;
  request.id = {1, 0};
  request.tokens = {1, 5, 9, 2, 7};
  request.prompt_size = 5;
  request.sampling.temperature = 0;
  request.sampling.max_tokens = 16;
  request.sampling.ignore_eos = true;
  EXPECT_FALSE((*made)->add(std::move(request)));
  std::vector<engine::token_id> out;
  while (!(*made)->idle()) {
    auto events = (*made)->step();
    if (!events)
      return events.error();
    for (const auto& event : *events)
      out.push_back(event.token);
  }
  return out;
}

std::vector<engine::token_id> first_tokens(const opened_model& x, gpu::device& device) {
  auto out = try_tokens(x, device);
  EXPECT_TRUE(out) << describe(out.error());
  return out ? *out : std::vector<engine::token_id>{};
}

TEST(pooled_files, an_engine_over_the_pool_says_what_one_over_mapped_files_says) {
  const auto tiers = small_tiers();
  const auto device = gpu::make_cpu_device();
  for (const auto* name : {"llama_gqa_tied", "llama_mha", "qwen3", "mistral_full"}) {
    load_order order;
    order.dir = (models / name).string();
    const auto mapped = open_model_files(order, keep_going);
    ASSERT_FALSE(mapped.why) << describe(mapped.why);
    const auto expected = first_tokens(mapped, *device);
    EXPECT_EQ(expected.size(), 16u);
    uint64_t last = 0, total = 0;
    const auto progress = [&](uint64_t done, uint64_t all) {
      EXPECT_GE(done, last);
      last = done, total = all;
      return true;
    };
    const auto pooled = open_model_files(order, progress, tiers);
    ASSERT_FALSE(pooled.why) << describe(pooled.why);
    EXPECT_GT(tiers->pool().usage().leased_bytes, 0u) << "it was mapped after all";
    EXPECT_GT(total, 0u);
    EXPECT_EQ(first_tokens(pooled, *device), expected) << name;
  }
  EXPECT_EQ(tiers->pool().usage().leased_bytes, 0u);
}

TEST(pooled_files, a_load_that_is_stopped_lets_everything_go) {
  const auto tiers = small_tiers();
  load_order order;
  order.dir = (models / "llama_mha").string();
  for (const int calls : {0, 1}) {
    const auto stopped = open_model_files(
        order, [left = calls](uint64_t, uint64_t) mutable { return left-- > 0; }, tiers);
    EXPECT_TRUE(stopped.why == storage::errc::cancelled) << describe(stopped.why);
    EXPECT_EQ(tiers->pool().usage().leased_bytes, 0u);
  }
}

TEST(pooled_files, one_flipped_bit_anywhere_is_named_with_its_place_and_never_computed_with) {
  const storage::test::temporary_directory root;
  const auto model = root.path() / "model", sums = root.path() / "sums";
  fs::copy(models / "llama_mha", model);
  const auto device = gpu::make_cpu_device();
  load_order order;
  order.dir = model.string();
  const auto expected =
      first_tokens(open_model_files(order, keep_going, small_tiers(sums)), *device);
  ASSERT_EQ(expected.size(), 16u);
  fs::copy(sums, root.path() / "kept");
  const auto file = model / "model.safetensors";
  const auto written = fs::last_write_time(file);
  const auto flip = [&](uint64_t at, char bit) {
    std::fstream bytes{file, std::ios::in | std::ios::out | std::ios::binary};
    bytes.seekg(static_cast<std::streamoff>(at));
    const auto now = static_cast<char>(bytes.get() ^ bit);
    bytes.seekp(static_cast<std::streamoff>(at)).put(now);
    bytes.close();
    fs::last_write_time(file, written);
  };
  std::mt19937_64 random{21};
  const auto size = fs::file_size(file);
  for (int round = 0; round < 60; ++round) {
    // The header is read by others; what it names is verified.
    const auto at = size / 4 + random() % (size - size / 4);
    const auto bit = static_cast<char>(1 << random() % 8);
    flip(at, bit);
    const auto got = try_tokens(open_model_files(order, keep_going, small_tiers(sums)), *device);
    ASSERT_FALSE(got) << "byte " << at << " was computed with";
    EXPECT_TRUE(got.error() == storage::errc::corrupted);
    const auto place = file.string() + ": at byte " + std::to_string(at / 4096 * 4096) + " ";
    EXPECT_NE(describe(got.error()).find(place), std::string::npos) << describe(got.error());
    flip(at, bit);
    fs::remove_all(sums);
    fs::copy(root.path() / "kept", sums);
  }
  EXPECT_EQ(first_tokens(open_model_files(order, keep_going, small_tiers(sums)), *device),
            expected);
}

TEST(pooled_files, without_a_pool_of_its_own_a_node_still_has_tiers) {
  EXPECT_EQ(open_tiers({}), nullptr);
  const auto taken = fs::temp_directory_path() / "no" / "such" / "place" / "pool";
  const auto tiers = open_tiers({taken, uint64_t{1} << 30, {}});
  ASSERT_TRUE(tiers);
  EXPECT_LE(tiers->pool().usage().size_bytes, 64u << 20);
}

} // namespace
} // namespace troupe::actors
