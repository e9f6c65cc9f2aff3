#include "actors/pooled_files.hpp"

#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

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

const fs::path golden = fs::path{TROUPE_SOURCE_DIR} / "tests" / "golden";
const fs::path models = golden / "models";

std::shared_ptr<storage::weight_tiers> small_tiers(const fs::path& checksums = {},
                                                   uint64_t bytes = 64u << 20) {
  storage::weight_tiers_options options;
  options.checksums = checksums;
  options.pool.chunk_bytes = 4096;
  options.pool.size_bytes = bytes;
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
  auto made =
      engine::engine::create(*x.config, x.lookup, x.keep_alive, device, options, x.draft.get());
  if (!made)
    return made.error();
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

/// Loads through `tiers` and mapped, and compares what the engines say.
void expect_the_same(const load_order& order, const std::shared_ptr<storage::weight_tiers>& tiers) {
  SCOPED_TRACE(order.dir);
  const auto device = gpu::make_cpu_device();
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
  ASSERT_TRUE(pooled.follow) << "it was mapped after all";
  std::jthread following{[&] { pooled.follow(progress); }};
  EXPECT_EQ(first_tokens(pooled, *device), expected);
  following.join();
  EXPECT_GT(total, 0u);
  EXPECT_EQ(last, total);
}

TEST(pooled_files, an_engine_over_the_pool_says_what_one_over_mapped_files_says) {
  const auto tiers = small_tiers();
  for (const auto* name :
       {"models/llama_gqa_tied", "models/llama_mha", "models/qwen3", "models/mistral_full",
        "gguf_models/llama_f16.gguf", "gguf_models/llama_gqa_tied.gguf", "gguf_models/qwen3.gguf",
        "gguf_models/split-00001-of-00003.gguf", "packed_models/awq",
        "packed_models/gptq_act_order", "packed_models/gptq_symmetric", "packed_models/fp8_block",
        "packed_models/ct_w4_group"}) {
    load_order order;
    order.dir = (golden / name).string();
    expect_the_same(order, tiers);
  }
  EXPECT_EQ(tiers->pool().usage().leased_bytes, 0u);
}

TEST(pooled_files, a_model_and_the_one_that_guesses_for_it_come_through_the_pool) {
  const auto tiers = small_tiers();
  load_order order;
  order.dir = (models / "llama_mha").string();
  order.draft_dir = (models / "llama_gqa_tied").string();
  expect_the_same(order, tiers);
  EXPECT_EQ(tiers->pool().usage().leased_bytes, 0u);
}

TEST(pooled_files, a_model_larger_than_the_pool_passes_through_it) {
  const auto tiers = small_tiers({}, 20 * 4096);
  for (const auto* name : {"models/llama_mha", "models/mistral_full"}) {
    load_order order;
    order.dir = (golden / name).string();
    expect_the_same(order, tiers);
    EXPECT_EQ(tiers->pool().usage().leased_bytes, 0u);
  }
  EXPECT_GT(tiers->pool().usage().evictions, 0u);
}

TEST(pooled_files, a_load_that_is_stopped_lets_everything_go) {
  const auto tiers = small_tiers();
  const auto stop = [](uint64_t, uint64_t) { return false; };
  load_order order;
  order.dir = (models / "llama_mha").string();
  const auto never = open_model_files(order, stop, tiers);
  EXPECT_TRUE(never.why == storage::errc::cancelled) << describe(never.why);
  {
    const auto begun = open_model_files(order, keep_going, tiers);
    ASSERT_TRUE(begun.follow);
    begun.follow(stop); // comes back, whether or not it was in time
  }
  {
    auto begun = open_model_files(order, keep_going, tiers);
    const auto follow = begun.follow;
    begun = {}; // nobody wants it any more
    follow(keep_going);
  }
  EXPECT_EQ(tiers->pool().usage().leased_bytes, 0u);
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

TEST(pooled_files, a_damaged_draft_model_is_not_computed_with) {
  const storage::test::temporary_directory root;
  const auto draft = root.path() / "draft", sums = root.path() / "sums";
  fs::copy(models / "llama_gqa_tied", draft);
  const auto device = gpu::make_cpu_device();
  load_order order;
  order.dir = (models / "llama_mha").string();
  order.draft_dir = draft.string();
  ASSERT_EQ(first_tokens(open_model_files(order, keep_going, small_tiers(sums)), *device).size(),
            16u);
  const auto file = draft / "model.safetensors";
  const auto written = fs::last_write_time(file);
  std::fstream{file, std::ios::in | std::ios::out | std::ios::binary}
      .seekp(static_cast<std::streamoff>(fs::file_size(file) / 2))
      .put('!');
  fs::last_write_time(file, written);
  const auto got = open_model_files(order, keep_going, small_tiers(sums));
  ASSERT_FALSE(got.why);
  got.follow(keep_going);
  const auto made =
      engine::engine::create(*got.config, got.lookup, got.keep_alive, *device, {}, got.draft.get());
  ASSERT_TRUE(made);
  caf::error why;
  while (!(why = (*made)->weights().why))
    std::this_thread::yield();
  EXPECT_TRUE(why == storage::errc::corrupted);
  EXPECT_NE(describe(why).find(file.string() + ": at byte "), std::string::npos) << describe(why);
}

TEST(pooled_files, without_a_pool_of_its_own_a_node_still_has_tiers) {
  EXPECT_EQ(open_tiers({}), nullptr);
  const auto taken = fs::temp_directory_path() / "no" / "such" / "place" / "pool";
  const auto tiers = open_tiers({.pool = taken, .pool_bytes = uint64_t{1} << 30, .checksums = {}});
  ASSERT_TRUE(tiers);
  EXPECT_LE(tiers->pool().usage().size_bytes, 64u << 20);
}

} // namespace
} // namespace troupe::actors
