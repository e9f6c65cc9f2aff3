#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "gpu/device.hpp"
#include "gpu/errors.hpp"

namespace troupe::gpu {
namespace {

/// What only an emulated device can be made to do: fail.
class cuda_device_test : public testing::Test {
protected:
  void TearDown() override {
    cuda_emulation::set_device_count(1);
    cuda_emulation::set_peer_access(true);
    cuda_emulation::fail_next(cudaSuccess);
    cuda_emulation::refuse(cuda_emulation::graph_call::none);
  }
  static std::unique_ptr<device> open(const device_options& options = {}, int ordinal = 0) {
    auto made = make_cuda_device(ordinal, options);
    EXPECT_TRUE(made) << describe(made.error());
    return std::move(*made);
  }
};

TEST_F(cuda_device_test, a_machine_without_a_device_says_what_to_do) {
  cuda_emulation::set_device_count(0);
  const auto made = make_cuda_device(0);
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error(), errc::unavailable);
  EXPECT_NE(describe(made.error()).find("use the device cpu"), std::string::npos);
  EXPECT_EQ(cuda_devices().error(), errc::unavailable);
}

TEST_F(cuda_device_test, a_device_that_is_not_there_is_refused_by_its_number) {
  for (const int ordinal : {-1, 1, 7}) {
    const auto made = make_cuda_device(ordinal);
    ASSERT_FALSE(made);
    EXPECT_EQ(made.error(), errc::unavailable);
    EXPECT_NE(describe(made.error()).find("cuda:" + std::to_string(ordinal)), std::string::npos);
  }
}

TEST_F(cuda_device_test, memory_over_the_limit_is_refused_and_freed_memory_comes_back) {
  device_options options;
  options.memory_bytes = 1000;
  const auto dev = open(options);
  EXPECT_EQ(dev->memory_bytes(), 1000u);
  {
    const auto first = dev->allocate(600);
    ASSERT_TRUE(first);
    const auto second = dev->allocate(401);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error(), errc::out_of_memory);
    EXPECT_NE(describe(second.error()).find("600 of 1000 bytes are in use"), std::string::npos);
  }
  EXPECT_TRUE(dev->allocate(1000));
}

TEST_F(cuda_device_test, a_failed_allocation_leaves_the_device_usable) {
  const auto dev = open();
  cuda_emulation::fail_next(cudaErrorMemoryAllocation);
  const auto got = dev->allocate(8);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error(), errc::out_of_memory);
  EXPECT_FALSE(dev->synchronize());
  EXPECT_TRUE(dev->allocate(8));
}

TEST_F(cuda_device_test, the_first_failure_sticks_and_names_the_op) {
  const auto dev = open();
  const auto memory = dev->allocate(64);
  ASSERT_TRUE(memory);
  cuda_emulation::fail_next(cudaErrorIllegalAddress, true);
  gather_rows_args args;
  args.rows = args.cols = 1;
  dev->gather_rows(args);
  dev->embedding({});
  for (int i = 0; i < 2; ++i) {
    const auto why = dev->synchronize();
    EXPECT_EQ(why, errc::device_failed);
    EXPECT_NE(describe(why).find("gather_rows on cuda:0 (emulated)"), std::string::npos)
        << describe(why);
  }
  EXPECT_EQ(dev->allocate(8).error(), errc::device_failed);
}

TEST_F(cuda_device_test, large_copies_arrive_whole_from_every_queue) {
  const auto dev = open();
  const auto other = dev->second_queue();
  ASSERT_TRUE(other);
  // Odd sizes around those of the slots, and offsets that no page begins at.
  for (const size_t size : {(size_t{1} << 20) + 1, (size_t{4} << 20) + 3, size_t{37'000'001}}) {
    std::vector<uint32_t> words(size / 4 + 2);
    for (size_t i = 0; i < words.size(); ++i)
      words[i] = static_cast<uint32_t>(i * 2654435761u);
    const auto* from = reinterpret_cast<const char*>(words.data()) + 3;
    for (auto* queue : {dev.get(), other.get()}) {
      const auto memory = dev->allocate(size);
      ASSERT_TRUE(memory);
      queue->copy_to_device(memory->data(), from, size);
      std::vector<char> back(size);
      queue->copy_to_host(back.data(), memory->data(), size);
      EXPECT_FALSE(queue->synchronize());
      EXPECT_EQ(std::memcmp(back.data(), from, size), 0) << size;
    }
  }
}

TEST_F(cuda_device_test, the_source_of_a_large_copy_may_change_at_once) {
  const auto dev = open();
  std::vector<char> source(9'000'000, 'a'), back(source.size());
  const auto memory = dev->allocate(source.size());
  ASSERT_TRUE(memory);
  dev->copy_to_device(memory->data(), source.data(), source.size());
  std::fill(source.begin(), source.end(), 'b');
  dev->copy_to_host(back.data(), memory->data(), back.size());
  EXPECT_FALSE(dev->synchronize());
  EXPECT_EQ(back, std::vector<char>(back.size(), 'a'));
}

TEST_F(cuda_device_test, a_machine_that_pins_no_memory_still_copies) {
  const auto dev = open();
  const std::vector<char> source(3'000'000, 'a');
  std::vector<char> back(source.size());
  const auto memory = dev->allocate(source.size());
  ASSERT_TRUE(memory);
  cuda_emulation::fail_next(cudaErrorMemoryAllocation); // the first lane's
  dev->copy_to_device(memory->data(), source.data(), source.size());
  dev->copy_to_host(back.data(), memory->data(), back.size());
  EXPECT_FALSE(dev->synchronize());
  EXPECT_EQ(back, source);
}

TEST_F(cuda_device_test, a_large_copy_that_fails_is_reported) {
  const auto dev = open();
  const std::vector<char> source(9'000'000, 'a');
  const auto memory = dev->allocate(source.size());
  ASSERT_TRUE(memory);
  dev->copy_to_device(memory->data(), source.data(), source.size());
  cuda_emulation::fail_next(cudaErrorIllegalAddress, true);
  dev->copy_to_device(memory->data(), source.data(), source.size());
  const auto why = dev->synchronize();
  EXPECT_EQ(why, errc::device_failed);
  EXPECT_NE(describe(why).find("copying to the device"), std::string::npos) << describe(why);
}

TEST_F(cuda_device_test, memory_of_another_device_is_read_directly_or_else_through_the_host) {
  cuda_emulation::set_device_count(3);
  const auto there = open({}, 1), here = open({}, 2);
  ASSERT_TRUE(here->home().takes_from(there->home()));
  const std::vector<char> text(100'000, 'a');
  const auto from = there->allocate(text.size()), to = here->allocate(text.size());
  ASSERT_TRUE(from && to);
  there->copy_to_device(from->data(), text.data(), text.size());
  ASSERT_FALSE(there->synchronize());
  const auto run = [&] {
    const auto queue = here->second_queue();
    std::vector<char> back(text.size());
    here->copy_to_device(to->data(), back.data(), back.size());
    EXPECT_FALSE(here->synchronize());
    for (size_t done = 0; done < text.size(); done += text.size() / 4)
      queue->copy_from(there->home(), to->as<char>() + done, from->as<char>() + done,
                       text.size() / 4);
    EXPECT_NE(*to->as<char>(), 'a') << "in the order of the queue, no sooner";
    EXPECT_FALSE(queue->synchronize());
    here->copy_to_host(back.data(), to->data(), back.size());
    EXPECT_FALSE(here->synchronize());
    EXPECT_EQ(back, text);
  };
  const auto before = cuda_emulation::peer_copies();
  run();
  EXPECT_EQ(cuda_emulation::peer_copies().direct_bytes - before.direct_bytes, text.size());
  EXPECT_EQ(cuda_emulation::peer_copies().staged_bytes, before.staged_bytes);
  cuda_emulation::set_peer_access(false);
  run();
  EXPECT_EQ(cuda_emulation::peer_copies().direct_bytes - before.direct_bytes, text.size());
  EXPECT_EQ(cuda_emulation::peer_copies().staged_bytes - before.staged_bytes, text.size());
}

TEST_F(cuda_device_test, a_copy_from_another_device_that_fails_is_reported) {
  cuda_emulation::set_device_count(2);
  const auto there = open({}, 1), here = open();
  const auto from = there->allocate(64), to = here->allocate(64);
  ASSERT_TRUE(from && to);
  here->copy_from({"cuda", 0}, to->data(), from->data(), 64); // which does not have it
  const auto why = here->synchronize();
  EXPECT_EQ(why, errc::device_failed);
  EXPECT_NE(describe(why).find("copying from another device on cuda:0"), std::string::npos)
      << describe(why);
  EXPECT_FALSE(there->synchronize()) << "that one is as it was";
}

/// Copies one float by ops that are recorded when their key comes again.
class recorded_op {
public:
  explicit recorded_op(device& on) : on_{on}, memory_{std::move(*on.allocate(12))} {}

  float run(const recording_key& key, float value, int calls = 1) {
    auto* floats = memory_.as<float>();
    const float before[] = {value, -1};
    const int32_t index = 0;
    on_.copy_to_device(floats, before, sizeof before);
    on_.copy_to_device(floats + 2, &index, sizeof index);
    was_replayed = on_.replay(key);
    if (!was_replayed) {
      const bool is_recording = on_.begin_recording(key);
      call(calls);
      if (is_recording && !on_.end_recording())
        call(calls);
    }
    float out = 0;
    on_.copy_to_host(&out, floats + 1, sizeof out);
    EXPECT_FALSE(on_.synchronize());
    return out;
  }
  bool was_replayed = false;

private:
  void call(int times) {
    gather_rows_args args;
    args.x = memory_.as<float>();
    args.out = memory_.as<float>() + 1;
    args.index = memory_.as<int32_t>() + 2;
    args.rows = args.cols = args.x_stride = 1;
    for (int i = 0; i < times; ++i)
      on_.gather_rows(args);
  }

  device& on_;
  buffer memory_;
};

TEST_F(cuda_device_test, ops_are_recorded_the_second_time_and_replayed_from_the_third_on) {
  const auto dev = open();
  recorded_op op{*dev};
  const auto launched = cuda_emulation::graphs().launched;
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(op.run({dev.get(), nullptr, 1, 1, 1}, static_cast<float>(i)), i);
    EXPECT_EQ(op.was_replayed, i >= 2);
  }
  EXPECT_EQ(cuda_emulation::graphs().launched - launched, 4u);
  EXPECT_EQ(op.run({dev.get(), nullptr, 1, 1, 2}, 7), 7);
  EXPECT_FALSE(op.was_replayed) << "another key";
}

TEST_F(cuda_device_test, recordings_are_bounded_and_go_with_their_owner_and_device) {
  ASSERT_EQ(cuda_emulation::graphs().alive, 0u);
  const int owners[2] = {};
  {
    const auto dev = open();
    recorded_op op{*dev};
    for (int i = 0; i < 400; ++i)
      EXPECT_EQ(op.run({&owners[i % 2], nullptr, i / 4, 0, 0}, static_cast<float>(i)), i);
    EXPECT_EQ(cuda_emulation::graphs().alive, 64u);
    dev->forget_recordings(&owners[0]);
    op.run({&owners[0], nullptr, 99, 0, 0}, 1);
    EXPECT_FALSE(op.was_replayed);
    op.run({&owners[1], nullptr, 99, 0, 0}, 1);
    EXPECT_TRUE(op.was_replayed) << "the other's stay";
  }
  EXPECT_EQ(cuda_emulation::graphs().alive, 0u);
}

TEST_F(cuda_device_test, what_is_executable_of_recordings_stays_for_others_of_the_same_kernels) {
  const auto dev = open();
  recorded_op op{*dev};
  const int owners[2] = {};
  const auto record = [&](int owner, int from, int to) {
    const auto before = cuda_emulation::graphs();
    for (int calls = from; calls <= to; ++calls)
      for (int i = 1; i <= 2; ++i) {
        const auto value = static_cast<float>(i * calls);
        EXPECT_EQ(op.run({&owners[owner], nullptr, calls, 0, 0}, value, calls), value);
      }
    const auto now = cuda_emulation::graphs();
    return std::pair{now.instantiated - before.instantiated, now.updated - before.updated};
  };
  using made_and_updated = std::pair<size_t, size_t>;
  EXPECT_EQ(record(0, 1, 40), made_and_updated(40, 0));
  EXPECT_EQ(record(1, 1, 20), made_and_updated(20, 0)) << "the first owner's are its own";
  dev->forget_recordings(&owners[0]);
  EXPECT_EQ(record(1, 21, 40), made_and_updated(0, 20));
  EXPECT_EQ(record(0, 41, 60), made_and_updated(20, 0)) << "others have another shape";
  // 20 are kept, those of 1 to 20 calls; with 60 more that are 16 too many, and the oldest go.
  dev->forget_recordings(&owners[0]);
  dev->forget_recordings(&owners[1]);
  EXPECT_EQ(cuda_emulation::graphs().alive, 64u);
  EXPECT_EQ(record(0, 41, 60), made_and_updated(0, 20));
  EXPECT_EQ(record(0, 1, 20), made_and_updated(0, 20));
  EXPECT_EQ(record(1, 1, 20), made_and_updated(16, 4));
  EXPECT_EQ(cuda_emulation::graphs().not_updated, 0u);
}

TEST_F(cuda_device_test, recordings_go_when_the_memory_that_they_use_does) {
  const auto dev = open();
  recorded_op op{*dev};
  const std::vector<float> ones(64 * 64, 1.0f);
  const auto memory = dev->allocate(ones.size() * 8);
  ASSERT_TRUE(memory);
  dev->copy_to_device(memory->data(), ones.data(), ones.size() * 4);
  linear_args args; // its rows are rounded in memory that the device keeps
  args.x = memory->as<float>();
  args.w = {memory->data(), dtype::bf16, 32, 64};
  args.out = memory->as<float>() + ones.size();
  args.rows = 8;
  args.x_stride = 64;
  args.out_stride = 32;
  dev->linear(args);
  const recording_key key{dev.get(), nullptr, 1, 1, 1};
  for (int i = 0; i < 3; ++i)
    op.run(key, 1);
  ASSERT_TRUE(op.was_replayed);
  dev->linear(args);
  op.run(key, 1);
  ASSERT_TRUE(op.was_replayed);
  args.rows = 64;
  dev->linear(args);
  EXPECT_EQ(op.run(key, 2), 2);
  EXPECT_FALSE(op.was_replayed);
}

TEST_F(cuda_device_test, ops_that_cannot_be_recorded_run_as_ever) {
  using cuda_emulation::graph_call;
  for (const auto call :
       {graph_call::begin, graph_call::end, graph_call::instantiate, graph_call::launch}) {
    const auto dev = open();
    recorded_op op{*dev};
    cuda_emulation::refuse(call);
    for (int i = 0; i < 4; ++i) {
      EXPECT_EQ(op.run({dev.get(), nullptr, 1, 1, 1}, static_cast<float>(i)), i);
      EXPECT_FALSE(op.was_replayed);
    }
    cuda_emulation::refuse(graph_call::none);
    EXPECT_EQ(op.run({dev.get(), nullptr, 1, 1, 1}, 9), 9);
  }
  EXPECT_EQ(cuda_emulation::graphs().alive, 0u);
}

TEST_F(cuda_device_test, small_copies_may_change_their_source_at_once) {
  const auto dev = open();
  const auto other = dev->second_queue();
  const auto memory = dev->allocate(8);
  ASSERT_TRUE(memory && other);
  for (auto* queue : {dev.get(), other.get()}) {
    char text[8] = "before";
    for (int i = 0; i < 200000; ++i) // more than the ring holds
      queue->copy_to_device(memory->data(), text, sizeof text);
    std::memset(text, 'x', sizeof text);
    char back[8] = {};
    queue->copy_to_host(back, memory->data(), sizeof back);
    EXPECT_FALSE(queue->synchronize());
    EXPECT_STREQ(back, "before");
  }
}

} // namespace
} // namespace troupe::gpu
