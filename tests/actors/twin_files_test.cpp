#include <cuda_runtime.h>

#include <fcntl.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include <gtest/gtest.h>

#include "actors/model_files.hpp"
#include "actors/worker_engines.hpp"
#include "engine/errors.hpp"
#include "tests/actors/first_tokens.hpp"
#include "tests/storage/model_files.hpp"

/// Models that come from another device of the machine, here of two CUDA devices that are emulated,
/// instead of their files.
namespace troupe::actors {
namespace {

namespace fs = std::filesystem;

/// Overwrites all but a file's first `keep` bytes; nothing tells the file from what it was.
void spoil(const fs::path& file, uint64_t keep) {
  struct stat before {};
  ASSERT_EQ(::stat(file.c_str(), &before), 0);
  const auto size = fs::file_size(file);
  {
    std::fstream out{file, std::ios::in | std::ios::out | std::ios::binary};
    out.seekp(static_cast<std::streamoff>(keep));
    out << std::string(size - keep, '\x11');
  }
  const timespec times[] = {before.st_atim, before.st_mtim};
  ASSERT_EQ(::utimensat(AT_FDCWD, file.c_str(), times, 0), 0);
}

class twin_files_test : public testing::Test {
protected:
  /// A device of the node with its worker's engines.
  struct place {
    std::shared_ptr<gpu::device> device;
    std::function<caf::expected<std::unique_ptr<engine::engine>>(const opened_model&)> make;
  };

  twin_files_test() {
    cuda_emulation::set_device_count(2);
    for (int i = 0; i < 2; ++i) {
      gpu::device_options exact;
      exact.mode = gpu::precision::float32;
      places_[i].device = std::move(*gpu::make_cuda_device(i, exact));
      places_[i].make = engines_on(places_[i].device, 8 << 20, twins_);
    }
    storage::weight_tiers_options options;
    options.pool.chunk_bytes = 4096;
    options.pool.size_bytes = 16 << 20;
    options.map_cached_files = false;
    tiers_ = *storage::weight_tiers::open(options);
    order_.dir = dir_.path() / "model";
    fs::copy(fs::path{TROUPE_SOURCE_DIR} / "tests/golden/models/qwen3", order_.dir);
  }
  ~twin_files_test() override {
    for (auto& one : places_)
      one = {};
    cuda_emulation::set_device_count(1);
  }

  opened_model open(int place) {
    auto order = order_;
    order.home = places_[place].device->home();
    auto out = open_model_files(
        order, [](auto, auto) { return true; }, tiers_, nullptr, twins_);
    EXPECT_FALSE(out.why) << describe(out.why);
    out.order = order;
    return out;
  }
  std::unique_ptr<engine::engine> make(int place, const opened_model& from) {
    auto out = places_[place].make(from);
    EXPECT_TRUE(out) << describe(out.error());
    return out ? std::move(*out) : nullptr;
  }
  static double from_device(const policies::tier_bytes& bytes) {
    return bytes[static_cast<size_t>(policies::load_tier::device)];
  }

  storage::test::temporary_directory dir_;
  load_order order_;
  std::shared_ptr<engine::weight_twins> twins_ = std::make_shared<engine::weight_twins>();
  std::shared_ptr<storage::weight_tiers> tiers_;
  place places_[2];
};

TEST_F(twin_files_test, files_of_a_model_that_a_device_has_are_not_read_again) {
  const auto first = make(0, open(0));
  const auto expected = test::first_tokens(*first);
  const auto size = static_cast<double>(open(0).weight_bytes);
  // From the files nothing right could come any more, and the pool forgets.
  std::ifstream file{fs::path{order_.dir} / "model.safetensors", std::ios::binary};
  uint64_t header = 0;
  file.read(reinterpret_cast<char*>(&header), sizeof header);
  spoil(fs::path{order_.dir} / "model.safetensors", 8 + header);
  const auto chunks = tiers_->pool().usage();
  EXPECT_EQ(from_device(*survey_model_files(order_, order_.dir, tiers_, twins_, 0)), 0);

  auto here = order_;
  here.home = places_[1].device->home();
  EXPECT_EQ(from_device(*survey_model_files(here, order_.dir, tiers_, twins_, 0)), size);
  const auto opened = open(1);
  EXPECT_FALSE(opened.lookup);
  EXPECT_FALSE(opened.follow);
  EXPECT_EQ(from_device(opened.whence()), size);
  EXPECT_EQ(opened.weight_bytes, size);
  const auto before = cuda_emulation::peer_copies();
  const auto second = make(1, opened);
  EXPECT_EQ(test::first_tokens(*second), expected);
  EXPECT_EQ(static_cast<double>(cuda_emulation::peer_copies().direct_bytes - before.direct_bytes),
            size);
  const auto after = tiers_->pool().usage();
  EXPECT_EQ(after.held_bytes, chunks.held_bytes);
  EXPECT_EQ(after.evictions, chunks.evictions);
}

TEST_F(twin_files_test, a_model_of_other_files_or_another_form_is_read) {
  const auto first = make(0, open(0));
  test::first_tokens(*first); // all is there
  order_.options.quantize = engine::quantization::int8;
  EXPECT_TRUE(open(1).lookup);
  order_.options.quantize = engine::quantization::none;
  EXPECT_FALSE(open(1).lookup);
  // Another config.json may ask for other weights.
  const auto config = fs::path{order_.dir} / "config.json";
  fs::last_write_time(config, fs::last_write_time(config) + std::chrono::seconds{1});
  EXPECT_TRUE(open(1).lookup);
}

TEST_F(twin_files_test, weights_that_went_since_they_were_found_have_to_come_from_the_files) {
  auto first = make(0, open(0));
  const auto expected = test::first_tokens(*first);
  const auto opened = open(1);
  ASSERT_FALSE(opened.lookup);
  first = nullptr;
  EXPECT_EQ(places_[1].make(opened).error(), engine::errc::no_twin);
  const auto again = open(1);
  EXPECT_TRUE(again.lookup);
  EXPECT_EQ(test::first_tokens(*make(1, again)), expected);
}

TEST_F(twin_files_test, draft_models_come_from_there_too) {
  order_.draft_dir = (fs::path{TROUPE_SOURCE_DIR} / "tests/golden/models/llama_mha").string();
  const auto first = make(0, open(0));
  const auto expected = test::first_tokens(*first);
  const auto opened = open(1);
  ASSERT_TRUE(opened.draft);
  EXPECT_FALSE(opened.draft->lookup);
  const auto second = make(1, opened);
  EXPECT_EQ(test::first_tokens(*second), expected);
  EXPECT_EQ(second->memory().weights_bytes, first->memory().weights_bytes);
  EXPECT_FALSE(first->is_lent());
}

} // namespace
} // namespace troupe::actors
