#include <cuda_runtime.h>

#include <filesystem>
#include <thread>

#include <gtest/gtest.h>

#include "actors/model_files.hpp"
#include "actors/pooled_files.hpp"
#include "gpu/device.hpp"
#include "tests/actors/first_tokens.hpp"
#include "tests/storage/model_files.hpp"

/// Weights that a CUDA device, emulated, reads from the host pool by itself.
namespace troupe::actors {
namespace {

namespace fs = std::filesystem;

class pinned_pool_test : public testing::Test {
protected:
  static constexpr uint64_t chunk = 4096;

  pinned_pool_test() {
    gpu::device_options exact;
    exact.mode = gpu::precision::float32;
    device_ = std::move(*gpu::make_cuda_device(0, exact));
  }
  ~pinned_pool_test() override { cuda_emulation::fail_next(cudaSuccess); }

  static std::shared_ptr<storage::weight_tiers> tiers(uint64_t bytes) {
    storage::weight_tiers_options options;
    options.pool.chunk_bytes = chunk;
    options.pool.size_bytes = bytes;
    options.pool.ready_bytes = 16 * chunk;
    options.map_cached_files = false;
    auto out = storage::weight_tiers::open(options);
    EXPECT_TRUE(out) << describe(out.error());
    return *out;
  }

  /// What a model says first.
  std::vector<engine::token_id> ask(const char* name,
                                    const std::shared_ptr<storage::weight_tiers>& from) {
    load_order order;
    order.dir = (fs::path{TROUPE_SOURCE_DIR} / "tests/golden" / name).string();
    const auto keep_going = [](uint64_t, uint64_t) { return true; };
    const auto opened = open_model_files(order, keep_going, from);
    EXPECT_FALSE(opened.why) << describe(opened.why);
    auto made = engine::engine::create(*opened.config, opened.lookup, opened.keep_alive, *device_,
                                       engine::engine_options{});
    EXPECT_TRUE(made) << describe(made.error());
    return made ? test::first_tokens(**made) : std::vector<engine::token_id>{};
  }
  static uint64_t direct_bytes() { return cuda_emulation::copies().registered_bytes; }
  static void wait_until_pinned(const storage::weight_tiers& tiers, uint64_t bytes) {
    while (tiers.pool().usage().pinned_bytes < bytes)
      std::this_thread::yield();
  }

  std::unique_ptr<gpu::device> device_;
};

TEST_F(pinned_pool_test, a_model_says_the_same_whether_or_not_its_weights_are_pinned) {
  for (const auto* name : {"models/llama_gqa_tied", "models/qwen3", "gguf_models/llama_f16.gguf",
                           "packed_models/gptq_symmetric"}) {
    SCOPED_TRACE(name);
    const auto want = ask(name, nullptr);
    const auto from = tiers(16 << 20);
    EXPECT_EQ(ask(name, from), want);
    EXPECT_TRUE(pin_pool(*from, *device_, UINT64_MAX));
    // All but the ends of files, which are shorter than a chunk.
    wait_until_pinned(*from, from->pool().usage().held_bytes / chunk * chunk - 4 * chunk);
    const auto before = direct_bytes();
    EXPECT_EQ(ask(name, from), want);
    if (std::string_view{name} == "models/qwen3") {
      EXPECT_GT(direct_bytes() - before, from->pool().usage().held_bytes / 2);
    }
    EXPECT_EQ(from->pool().usage().leased_bytes, 0u);
  }
}

TEST_F(pinned_pool_test, weights_of_a_model_that_is_loaded_first_come_directly_too) {
  const auto from = tiers(16 << 20);
  ASSERT_TRUE(pin_pool(*from, *device_, UINT64_MAX));
  wait_until_pinned(*from, 16 * chunk); // room that was made ready
  const auto before = direct_bytes();
  EXPECT_EQ(ask("models/qwen3", from), ask("models/qwen3", nullptr));
  EXPECT_GT(direct_bytes() - before, 8 * chunk);
}

TEST_F(pinned_pool_test, models_that_push_each_other_out_say_what_they_say_alone) {
  const char* names[] = {"models/llama_mha", "models/qwen3", "models/llama_gqa_tied"};
  std::vector<std::vector<engine::token_id>> want;
  for (const auto* name : names)
    want.push_back(ask(name, nullptr));
  const auto from = tiers(32 * chunk);
  ASSERT_TRUE(pin_pool(*from, *device_, 20 * chunk));
  const auto before = direct_bytes();
  for (size_t i = 0; i < 24; ++i)
    EXPECT_EQ(ask(names[i * i % 3], from), want[i * i % 3]) << i;
  EXPECT_GT(from->pool().usage().evictions, 0u);
  EXPECT_GT(direct_bytes(), before);
  EXPECT_LE(from->pool().usage().pinned_bytes, 20 * chunk);
}

TEST_F(pinned_pool_test, a_machine_that_pins_nothing_loads_all_the_same) {
  const auto from = tiers(16 << 20);
  const auto want = ask("models/qwen3", nullptr);
  cuda_emulation::fail_next(cudaErrorMemoryAllocation);
  ASSERT_TRUE(pin_pool(*from, *device_, UINT64_MAX));
  while (cuda_emulation::is_failure_pending())
    std::this_thread::yield();
  const auto before = direct_bytes();
  for (int i = 0; i < 2; ++i)
    EXPECT_EQ(ask("models/qwen3", from), want);
  EXPECT_EQ(direct_bytes(), before);
  EXPECT_EQ(from->pool().usage().pinned_bytes, 0u);
}

TEST_F(pinned_pool_test, devices_that_read_host_memory_pin_none) {
  const auto from = tiers(16 << 20);
  EXPECT_FALSE(pin_pool(*from, *gpu::make_cpu_device(), UINT64_MAX));
  EXPECT_FALSE(pin_pool(*from, *device_, 0));
}

} // namespace
} // namespace troupe::actors
