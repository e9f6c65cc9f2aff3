#include <gtest/gtest.h>

#include <thread>

#include "gpu/cpu/host_limits.hpp"
#include "gpu/device.hpp"
#include "gpu/errors.hpp"

namespace troupe::gpu {
namespace {

TEST(device_test, more_memory_than_there_is_fails_with_a_sentence) {
  for (const auto& dev : {make_cpu_device(), make_reference_device()}) {
    const auto got = dev->allocate(size_t{1} << 60);
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error(), errc::out_of_memory);
    EXPECT_NE(describe(got.error()).find("1152921504606846976 bytes"), std::string::npos)
        << describe(got.error());
  }
}

TEST(device_test, memory_that_was_freed_can_be_had_again) {
  device_options options;
  options.memory_bytes = 1000;
  const auto dev = make_cpu_device(options);
  EXPECT_EQ(dev->memory_bytes(), 1000u);
  {
    const auto first = dev->allocate(600);
    ASSERT_TRUE(first) << describe(first.error());
    EXPECT_TRUE(dev->allocate(400));
    const auto second = dev->allocate(401);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error(), errc::out_of_memory);
    EXPECT_NE(describe(second.error()).find("600 of 1000 bytes are in use"), std::string::npos)
        << describe(second.error());
  }
  EXPECT_TRUE(dev->allocate(1000));
}

TEST(device_test, buffers_are_aligned_and_move) {
  const auto dev = make_cpu_device();
  for (const size_t size : {0, 1, 63, 64, 1000}) {
    auto got = dev->allocate(size);
    ASSERT_TRUE(got);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(got->data()) % 64, 0u);
    EXPECT_EQ(got->size_bytes(), size);
    buffer moved = std::move(*got);
    EXPECT_TRUE(moved);
    EXPECT_FALSE(*got);
  }
}

TEST(device_test, copies_go_there_and_back) {
  const auto dev = make_cpu_device();
  const auto memory = dev->allocate(5);
  ASSERT_TRUE(memory);
  char back[5] = {};
  dev->copy_to_device(memory->data(), "text", 5);
  dev->copy_to_host(back, memory->data(), 5);
  dev->copy_to_host(nullptr, nullptr, 0);
  EXPECT_FALSE(dev->synchronize());
  EXPECT_STREQ(back, "text");
}

TEST(device_test, copies_the_memory_of_another_device) {
  // Several pieces, and a block that is large enough for pages of its own.
  std::vector<char> text(9'000'001), back(text.size());
  for (size_t i = 0; i < text.size(); ++i)
    text[i] = static_cast<char>(i * 7919 >> 8);
  auto sets = cpu_isas();
  sets.push_back("reference");
  for (const auto& isa : sets) {
    const auto here = make_cpu_device({2, precision::automatic, isa});
    const auto there = make_cpu_device({1, precision::automatic, isa});
    ASSERT_TRUE(here->home().takes_from(there->home())) << isa;
    const auto from = there->allocate(text.size()), to = here->allocate(text.size());
    ASSERT_TRUE(from && to);
    there->copy_to_device(from->data(), text.data(), text.size());
    ASSERT_FALSE(there->synchronize());
    const auto queue = here->second_queue();
    queue->copy_from(there->home(), to->data(), from->data(), text.size());
    queue->copy_from(there->home(), to->data(), from->data(), 0);
    ASSERT_FALSE(queue->synchronize());
    here->copy_to_host(back.data(), to->data(), back.size());
    EXPECT_TRUE(back == text) << isa;
  }
}

TEST(device_test, devices_that_hold_weights_otherwise_take_none_from_each_other) {
  std::vector<std::unique_ptr<device>> all;
  for (const auto& isa : cpu_isas())
    for (const auto mode : {precision::automatic, precision::float32})
      all.push_back(make_cpu_device({1, mode, isa}));
  all.push_back(make_reference_device());
  for (const auto& one : all)
    for (const auto& other : all)
      EXPECT_EQ(one->home().takes_from(other->home()), one == other)
          << one->name() << " " << other->name();
  EXPECT_FALSE(memory_home{}.takes_from({})) << "nobody else reads there";
}

TEST(device_test, runs_the_instruction_set_asked_for) {
  for (const auto& isa : cpu_isas())
    EXPECT_EQ(make_cpu_device({2, precision::automatic, isa})->name(),
              "cpu (" + isa + ", 2 threads)");
}

TEST(device_test, an_instruction_set_out_of_reach_falls_back) {
  EXPECT_EQ(make_cpu_device({1, precision::automatic, "portable"})->name(),
            "cpu (portable, 1 thread)");
  EXPECT_EQ(make_cpu_device({1, precision::automatic, "abacus"})->name(),
            "cpu (portable, 1 thread)");
  EXPECT_EQ(make_cpu_device({1, precision::automatic, "avx512_bf16"})->name(),
            make_cpu_device({1, precision::automatic, cpu_isas().back()})->name());
  EXPECT_EQ(make_cpu_device({1, precision::automatic, "reference"})->name(), "cpu (reference)");
}

TEST(device_test, limits_of_the_host_are_plausible) {
  EXPECT_GE(cpu::host_cores(), 1u);
  EXPECT_LE(cpu::host_cores(), std::max(1u, std::thread::hardware_concurrency()));
  EXPECT_GT(cpu::host_memory_bytes(), uint64_t{64} << 20);
}

} // namespace
} // namespace troupe::gpu
