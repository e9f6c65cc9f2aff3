#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "gpu/cpu/amx.hpp"
#include "gpu/cpu/cpu_device.hpp"
#include "gpu/cpu/panels.hpp"
#include "tests/gpu/emulated_kernels.hpp"
#include "tests/gpu/random_ops.hpp"

namespace troupe::gpu {
namespace {

using namespace test;

/// The AMX kernels' loops and layouts on a machine without AMX: the same code over tile registers
/// that are emulated. What the emulation cannot show is whether the processor agrees with it; the
/// check at start does that where there is AMX.
class amx_test : public testing::Test {
protected:
  void SetUp() override {
    const auto isas = cpu_isas();
    if (std::find(isas.begin(), isas.end(), "avx512_bf16") == isas.end())
      GTEST_SKIP() << "needs AVX-512 with BF16 and VNNI";
    vectors = make_cpu_device({2, precision::automatic, "avx512_bf16", 0});
    emulated = std::make_unique<cpu::cpu_device>(device_options{2, precision::automatic, "", 0},
                                                 kernels());
  }

  static cpu::isa_choice kernels() {
    auto choice = cpu::choose_isa("avx512_bf16", true);
    std::copy_n(cpu::emulated_byte_panels, cpu::byte_panel_kinds, choice.kernels.linear_panels);
    choice.kernels.linear_panels[cpu::panel_kind_of(dtype::bf16)] = cpu::emulated_linear_bf16;
    choice.kernels.panel_call_rows = cpu::amx_call_rows;
    return choice;
  }

  /// A random weight in panels.
  std::vector<unsigned char> panels(random_data& random, dtype type, int64_t n, int64_t k) {
    std::vector<unsigned char> out(bytes_of(type, static_cast<uint64_t>(n * k)));
    if (is_blocks(type)) {
      const auto blocks = random_blocks(random, type, n, k);
      emulated->quantize({{blocks.data(), type, n, k}, out.data(), type, weight_layout::panels});
      return out;
    }
    const random_weight plain{random, type, n, k};
    emulated->quantize({plain.get(), out.data(), type, weight_layout::panels});
    return out;
  }

  std::unique_ptr<device> vectors, emulated;
};

TEST_F(amx_test, bytes_give_the_bits_that_vectors_give) {
  random_data random{41};
  for (const auto type : {dtype::q8_0, dtype::q4_0, dtype::q4_1, dtype::q5_0, dtype::q5_1,
                          dtype::q4_k, dtype::q5_k, dtype::q6_k})
    for (const int64_t rows : {1, 7, 8, 16, 17, 48, 70, 259}) {
      const int64_t n = random.between(1, 150);
      const int64_t k = layout_of(type).elements * random.between(1, 9);
      const auto w = panels(random, type, n, k);
      const auto x = random.floats(rows * k);
      auto got = random.floats(rows * n);
      auto want = got;
      linear_args args{
          x.data(), {w.data(), type, n, k, weight_layout::panels}, {}, got.data(), rows, k, n,
          true};
      emulated->linear(args);
      args.out = want.data();
      vectors->linear(args);
      ASSERT_TRUE(same_bits(got.data(), want.data(), rows * n))
          << to_string(type) << " " << rows << "x" << n << "x" << k;
    }
}

TEST_F(amx_test, pairs_match_the_reference) {
  random_data random{42};
  const auto reference = make_reference_device();
  for (const int64_t rows : {1, 2, 15, 16, 17, 32, 33, 47, 100, 259, 3, 12}) {
    const int64_t n = random.between(1, 200), k = 32 * random.between(1, 40);
    const auto w = panels(random, dtype::bf16, n, k);
    const random_weight bias{random, dtype::f32, 1, n};
    auto x = random.floats(rows * k);
    round_to_bf16(x);
    auto got = random.floats(rows * n);
    auto want = got;
    linear_args args{x.data(),   {w.data(), dtype::bf16, n, k, weight_layout::panels},
                     bias.get(), got.data(),
                     rows,       k,
                     n,          true};
    emulated->linear(args);
    args.out = want.data();
    reference->linear(args);
    for (size_t i = 0; i < got.size(); ++i)
      ASSERT_NEAR(got[i], want[i], 1e-3f * (1 + std::abs(want[i])))
          << rows << "x" << n << "x" << k << " at " << i;
  }
}

TEST_F(amx_test, a_row_of_pairs_has_the_same_bits_alone_and_in_any_batch) {
  random_data random{43};
  const int64_t rows = 300, n = 86, k = 32 * 37;
  const auto w = panels(random, dtype::bf16, n, k);
  const auto x = random.floats(rows * k);
  std::vector<float> alone(static_cast<size_t>(rows * n));
  linear_args args{
      x.data(), {w.data(), dtype::bf16, n, k, weight_layout::panels}, {}, alone.data(), 1, k, n};
  for (int64_t i = 0; i < rows; ++i) {
    args.x = x.data() + i * k;
    args.out = alone.data() + i * n;
    emulated->linear(args);
  }
  for (const int64_t count : {2, 16, 17, 31, 32, 33, 49, 257, 300}) {
    std::vector<float> batch(static_cast<size_t>(count * n));
    args.x = x.data() + (rows - count) * k;
    args.out = batch.data();
    args.rows = count;
    emulated->linear(args);
    ASSERT_TRUE(same_bits(batch.data(), alone.data() + (rows - count) * n, count * n)) << count;
  }
}

void wrong_bf16(const cpu::panel_job& job, const cpu::tile_range& range) {
  cpu::emulated_linear_bf16(job, range);
  job.out[(range.row_end - 1) * job.out_stride + range.col_end - 1] += 1;
}

TEST_F(amx_test, the_check_at_start_accepts_right_kernels_and_no_others) {
  const auto proven = cpu::choose_isa("avx512_bf16", true).kernels;
  auto mine = kernels().kernels;
  EXPECT_TRUE(cpu::panels_agree(mine, proven));
  mine.linear_panels[cpu::panel_kind_of(dtype::bf16)] = wrong_bf16;
  EXPECT_FALSE(cpu::panels_agree(mine, proven));
  mine = kernels().kernels;
  std::swap(mine.linear_panels[cpu::panel_kind_of(dtype::q4_k)],
            mine.linear_panels[cpu::panel_kind_of(dtype::q4_0)]);
  EXPECT_FALSE(cpu::panels_agree(mine, proven));
}

TEST_F(amx_test, a_check_that_dies_or_hangs_is_a_no) {
  EXPECT_TRUE(cpu::true_in_child([] { return true; }));
  EXPECT_FALSE(cpu::true_in_child([] { return false; }));
  EXPECT_FALSE(cpu::true_in_child([]() -> bool { __builtin_trap(); }));
}

} // namespace
} // namespace troupe::gpu
