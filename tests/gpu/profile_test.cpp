#include "gpu/profile.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/gpu/random_ops.hpp"

namespace troupe::gpu {
namespace {

const op_cost* find(const std::vector<op_cost>& costs, const std::string& name) {
  const auto at = std::ranges::find(costs, name, &op_cost::name);
  return at == costs.end() ? nullptr : &*at;
}

std::unique_ptr<device> cpu(unsigned threads, uint64_t memory_bytes = 0) {
  device_options how;
  how.threads = threads;
  how.memory_bytes = memory_bytes;
  return make_cpu_device(how);
}

linear_args linear_of(const std::vector<float>& x, const weight& w, int64_t rows,
                      std::vector<float>& out) {
  out.resize(static_cast<size_t>(rows * w.rows));
  linear_args args;
  args.x = x.data();
  args.w = w;
  args.out = out.data();
  args.rows = rows;
  args.x_stride = w.cols;
  args.out_stride = w.rows;
  return args;
}

TEST(profile, a_profiled_device_computes_the_same_bits) {
  test::random_data random{7};
  const test::random_weight w{random, dtype::bf16, 40, 64};
  const auto x = random.floats(3 * 64);
  test::attention_case attention{random, {64, 2, 2, 16, 0, dtype::bf16, {3, 1}, {20, 5}}};
  const auto plain = cpu(2);
  const auto profiled = make_profiled_device(cpu(2));
  EXPECT_EQ(profiled->name(), plain->name());
  std::vector<float> a, b;
  plain->linear(linear_of(x, w.get(), 3, a));
  profiled->linear(linear_of(x, w.get(), 3, b));
  EXPECT_TRUE(test::same_bits(a.data(), b.data(), 3 * 40));
  const auto c = attention.run(*plain), d = attention.run(*profiled);
  EXPECT_TRUE(test::same_bits(c.data(), d.data(), static_cast<int64_t>(c.size())));
  EXPECT_FALSE(profiled->synchronize());
}

TEST(profile, what_comes_from_another_device_is_passed_on) {
  const auto plain = cpu(1);
  const auto profiled = make_profiled_device(cpu(1));
  ASSERT_TRUE(profiled->home().takes_from(plain->home()));
  const auto from = plain->allocate(6), to = profiled->allocate(6);
  ASSERT_TRUE(from && to);
  plain->copy_to_device(from->data(), "there", 6);
  profiled->copy_from(plain->home(), to->data(), from->data(), 6);
  EXPECT_STREQ(to->as<char>(), "there");
  EXPECT_EQ(profiled->take_costs().at(0).bytes, 6);
}

TEST(profile, calls_bytes_and_operations_are_counted_by_op_and_shape) {
  test::random_data random{7};
  const test::random_weight wide{random, dtype::bf16, 40, 64}, tall{random, dtype::f32, 64, 40};
  const auto x = random.floats(3 * 64);
  std::vector<float> out;
  const auto device = make_profiled_device(make_reference_device());
  device->linear(linear_of(x, wide.get(), 3, out));
  device->linear(linear_of(x, wide.get(), 1, out));
  device->linear(linear_of(x, tall.get(), 1, out));
  const auto costs = device->take_costs();
  ASSERT_EQ(costs.size(), 2u);
  EXPECT_GE(costs[0].time, costs[1].time);
  const auto* one = find(costs, "linear [40, 64] bf16");
  ASSERT_NE(one, nullptr);
  EXPECT_EQ(one->calls, 2u);
  EXPECT_DOUBLE_EQ(one->bytes, 2 * 40 * 64 * 2 + 4.0 * (3 + 1) * (64 + 40));
  EXPECT_DOUBLE_EQ(one->flops, 2.0 * (3 + 1) * 40 * 64);
  ASSERT_NE(find(costs, "linear [64, 40] f32"), nullptr);
  EXPECT_TRUE(device->take_costs().empty());
}

// Rows of a prompt see ever more of the cache, and no more than a window of it.
TEST(profile, attention_counts_what_is_visible) {
  test::random_data random{7};
  const auto device = make_profiled_device(make_reference_device());
  test::attention_case plain{random, {32, 2, 3, 16, 0, dtype::bf16, {4}, {10}}};
  plain.write(*device);
  device->take_costs();
  std::vector<float> out(static_cast<size_t>(plain.rows() * plain.width()));
  device->attention(plain.args(out.data()));
  auto costs = device->take_costs();
  ASSERT_EQ(costs.size(), 1u);
  EXPECT_EQ(costs[0].name, "attention");
  EXPECT_DOUBLE_EQ(costs[0].bytes, 10 * 2 * (2 * 32) * 2.0);
  EXPECT_DOUBLE_EQ(costs[0].flops, (7 + 8 + 9 + 10) * 4.0 * (6 * 32));
  test::attention_case window{random, {32, 2, 3, 16, 5, dtype::f32, {2}, {10}}};
  window.write(*device);
  device->take_costs();
  device->attention(window.args(out.data()));
  costs = device->take_costs();
  ASSERT_EQ(costs.size(), 1u);
  EXPECT_DOUBLE_EQ(costs[0].bytes, 6 * 2 * (2 * 32) * 4.0);
  EXPECT_DOUBLE_EQ(costs[0].flops, (5 + 5) * 4.0 * (6 * 32));
}

TEST(profile, its_buffers_are_those_of_the_device_behind_it) {
  const auto device = make_profiled_device(cpu(1, 4096));
  EXPECT_EQ(device->memory_bytes(), 4096u);
  for (int round = 0; round < 3; ++round) { // given back each time
    const auto memory = device->allocate(4096);
    ASSERT_TRUE(memory);
    EXPECT_FALSE(device->allocate(4096));
  }
}

} // namespace
} // namespace troupe::gpu
