#include "gpu/cuda/wide_products.hpp"

#include <cublasLt.h>
#include <gtest/gtest.h>

#include "gpu/device.hpp"
#include "gpu/self_check.hpp"
#include "tests/gpu/linear_cases.hpp"
#include "tests/gpu/queued_pieces.hpp"

namespace troupe::gpu {
namespace {

using namespace test;
namespace emulated = cublaslt_emulation;

/// What goes to the library, and what becomes of it where that refuses; all of it emulated, so that
/// memory of the host is the device's.
class wide_products_test : public testing::Test {
protected:
  void SetUp() override { emulated::reset(); }
  void TearDown() override {
    emulated::reset();
    cuda_emulation::set_capability(8, 0);
  }

  std::unique_ptr<device> open(products wide = products::fastest,
                               precision mode = precision::automatic) {
    device_options options;
    options.wide = wide;
    options.mode = mode;
    options.warn = [this](const std::string& what) { warnings.push_back(what); };
    auto made = make_cuda_device(0, options);
    EXPECT_TRUE(made) << describe(made.error());
    return std::move(*made);
  }

  /// Products that the library got for one of so many rows.
  static size_t products_of(device& on, const weight& w, int64_t rows) {
    const auto before = emulated::counted().products;
    const std::vector<float> x(static_cast<size_t>(rows * w.cols), 1.0f);
    std::vector<float> out(static_cast<size_t>(rows * w.rows));
    on.linear({x.data(), w, {}, out.data(), rows, w.cols, w.rows});
    return emulated::counted().products - before;
  }

  std::vector<std::string> warnings;
  random_data random{71};
};

TEST_F(wide_products_test, the_library_gets_many_rows_of_the_types_that_it_takes) {
  const auto dev = open();
  for (const auto type : {dtype::bf16, dtype::f16}) {
    const test_weight w{random, type, 16, 64};
    EXPECT_EQ(products_of(*dev, w.get(), 127), 0u);
    EXPECT_EQ(products_of(*dev, w.get(), 128), 1u);
  }
  for (const auto type : {dtype::q8_0, dtype::q6_k, dtype::f8_b128}) {
    const test_weight w{random, type, 16, 256};
    EXPECT_EQ(products_of(*dev, w.get(), 255), 0u);
    EXPECT_EQ(products_of(*dev, w.get(), 256), 1u);
  }
  EXPECT_EQ(products_of(*dev, test_weight{random, dtype::f32, 16, 64}.get(), 512), 0u);
  const test_weight odd{random, dtype::bf16, 16, 72};
  auto rows_of_nine = odd.get();
  rows_of_nine.cols = 9; // no row but the first is aligned
  EXPECT_EQ(products_of(*dev, rows_of_nine, 512), 0u);
  EXPECT_TRUE(warnings.empty());
}

TEST_F(wide_products_test, no_other_mode_knows_the_library) {
  const test_weight w{random, dtype::bf16, 16, 64};
  for (const auto& dev : {open(products::invariant), open(products::fastest, precision::float32)}) {
    EXPECT_EQ(products_of(*dev, w.get(), 512), 0u);
    EXPECT_EQ(dev->name(), "cuda:0 (emulated)");
  }
  EXPECT_EQ(emulated::counted().alive, 0u);
  EXPECT_EQ(open()->name(), "cuda:0 (emulated, cuBLASLt 13.1.2)");
}

TEST_F(wide_products_test, without_the_library_the_own_kernels_take_all_and_it_is_said_once) {
  emulated::reset({.missing = true});
  const auto dev = open(), usual = open(products::invariant);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_EQ(warnings[0], "cuda:0 (emulated): products are asked for to be the fastest, but there "
                         "is no emulated cuBLASLt; the kernels of `invariant` take all of them");
  const int64_t rows = 140, n = 24, k = 128;
  const test_weight w{random, dtype::bf16, n, k};
  const auto x = random.floats(rows * k);
  std::vector<float> got(rows * n), want(rows * n);
  dev->linear({x.data(), w.get(), {}, got.data(), rows, k, n});
  usual->linear({x.data(), w.get(), {}, want.data(), rows, k, n});
  EXPECT_TRUE(same_bits(got.data(), want.data(), rows * n));
  EXPECT_EQ(warnings.size(), 1u);
}

TEST_F(wide_products_test, products_that_are_refused_are_computed_all_the_same) {
  emulated::reset({.columns_max = 16});
  const auto dev = open();
  const auto reference = make_reference_device();
  for (int i = 0; i < 2; ++i)
    for (const auto type : {dtype::bf16, dtype::f16, dtype::q8_0}) {
      const int64_t rows = 260, n = 24, k = 128;
      const random_product one{random, type, rows, n, k, 1};
      expect_product_matches(*dev, *reference, one.args(), random, 1.0f / 512);
    }
  EXPECT_EQ(emulated::counted().products, 0u);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_EQ(warnings[0],
            "cuda:0 (emulated): cuBLASLt does not multiply [260, 128] with [24, 128] in bf16: "
            "status 15; products that it refuses are left to the kernels of `invariant`");
}

/// The parts of a product that the library and the own kernels have, one after the other.
class split_products : public wide_products_test {
protected:
  /// Queues a product in pieces of about `piece` columns; gives how many columns were queued.
  int64_t queue(const linear_args& args, int64_t piece) {
    cuda::wide_limits limits;
    limits.widened_bytes_max = static_cast<uint64_t>(piece * args.w.cols) * 2;
    return queued_columns(args, limits);
  }
};

TEST_F(split_products, weights_are_widened_in_pieces_and_a_refusal_leaves_the_rest_as_it_was) {
  const int64_t rows = 256, n = 70, k = 256;
  const auto own = open(products::invariant); // whose weights are rounded the same
  for (const size_t products_max : {SIZE_MAX, size_t{2}, size_t{0}}) {
    const test_weight w{random, dtype::q4_k, n, k};
    const random_weight bias{random, dtype::bf16, 1, n};
    auto x = random.floats(rows * k);
    round_to_bf16(x);
    const auto before = random.floats(rows * n);
    auto got = before, want = before;
    emulated::reset({.products_max = products_max});
    linear_args args{x.data(), w.get(), bias.get(), got.data(), rows, k, n, true};
    const auto done = queue(args, 20);
    EXPECT_EQ(done, products_max == 0 ? 0 : products_max == 2 ? 48 : n); // 24, 24, 22
    args.out = want.data();
    own->linear(args);
    for (int64_t i = 0; i < rows * n; ++i) {
      const auto at = static_cast<size_t>(i);
      if (i % n < done)
        EXPECT_NEAR(got[at], want[at], 1e-3f) << i;
      else
        EXPECT_EQ(got[at], before[at]) << i;
    }
  }
}

TEST_F(split_products, what_is_left_of_a_product_begins_at_its_column) {
  for (const auto type : {dtype::bf16, dtype::q8_0, dtype::q6_k}) {
    const int64_t rows = 3, n = 24, k = 256;
    const test_weight w{random, type, n, k};
    const random_weight bias{random, dtype::f16, 1, n, false};
    const auto x = random.floats(rows * k);
    std::vector<float> whole(rows * n), parts(rows * n);
    const auto reference = make_reference_device();
    linear_args args{x.data(), w.get(), bias.get(), whole.data(), rows, k, n};
    reference->linear(args);
    args.out = parts.data();
    reference->linear(cuda::columns_from(args, 8));
    args.w.rows = 8;
    reference->linear(args);
    EXPECT_EQ(parts, whole) << to_string(type);
  }
}

// Queries, keys and values of the same x.
TEST_F(wide_products_test, a_group_rounds_x_once_and_has_the_bits_of_single_products) {
  cuda_emulation::set_capability(9, 0);
  const int64_t rows = 258, k = 256; // two more than fours
  const auto x = random.floats(rows * k);
  const test_weight floats[] = {
      {random, dtype::bf16, 24, k}, {random, dtype::bf16, 8, k}, {random, dtype::bf16, 16, k}};
  const test_weight f8[] = {{random, dtype::f8_b128, 24, k},
                            {random, dtype::f8_b128, 8, k},
                            {random, dtype::f8_b128, 16, k}};
  const test_weight mixed[] = {
      {random, dtype::bf16, 24, k}, {random, dtype::f32, 8, k}, {random, dtype::f8_b128, 16, k}};
  const test_weight both[] = {
      {random, dtype::q8_0, 24, k}, {random, dtype::f8_b128, 8, k}, {random, dtype::bf16, 16, k}};
  struct {
    std::span<const test_weight> weights;
    size_t spared; ///< roundings of x
  } groups[] = {{floats, 2}, {f8, 2}, {mixed, 0}, {both, 0}};
  const auto dev = open();
  for (const auto& [weights, spared] : groups) {
    std::vector<linear_args> all;
    std::vector<std::vector<float>> got, want;
    for (const auto& w : weights) {
      got.emplace_back(static_cast<size_t>(rows * w.get().rows), 1.0f);
      want.push_back(got.back());
    }
    auto before = cuda_emulation::grids_run();
    for (size_t i = 0; i < weights.size(); ++i) {
      const auto w = weights[i].get();
      all.push_back({x.data(), w, {}, want[i].data(), rows, k, w.rows, true});
      dev->linear(all.back());
      all.back().out = got[i].data();
    }
    const auto singly = cuda_emulation::grids_run() - before;
    before = cuda_emulation::grids_run();
    dev->linear_group(all);
    EXPECT_EQ(cuda_emulation::grids_run() - before + spared, singly);
    EXPECT_EQ(got, want);
  }
  EXPECT_FALSE(dev->synchronize());
}

// A recorded step may have as many rows as sequences run at once.
TEST_F(wide_products_test, products_of_the_library_are_recorded_and_replayed) {
  cuda_emulation::set_capability(9, 0); // which multiplies 8-bit floats, too
  const auto dev = open();
  const int64_t rows = 260, n = 24, k = 256;
  for (const auto type :
       {dtype::q4_k, dtype::bf16, dtype::f8_b128}) { // the first takes most memory
    const test_weight w{random, type, n, k};
    auto x = random.floats(rows * k);
    std::vector<float> out(rows * n);
    const recording_key key{this, nullptr, rows, 0, static_cast<int64_t>(type)};
    const auto call = [&] { dev->linear({x.data(), w.get(), {}, out.data(), rows, k, n}); };
    call();
    const auto products = emulated::counted().products;
    for (int i = 0; i < 4; ++i) {
      for (auto& value : x)
        value += 1; // in its place: a recording holds pointers
      std::fill(out.begin(), out.end(), -1.0f);
      const bool replayed = dev->replay(key);
      EXPECT_EQ(replayed, i >= 2) << i;
      if (!replayed) {
        const bool is_recording = dev->begin_recording(key);
        EXPECT_EQ(is_recording, i == 1);
        call();
        EXPECT_EQ(is_recording && dev->end_recording(), is_recording);
      }
      const auto first = out;
      call();
      EXPECT_TRUE(same_bits(out.data(), first.data(), rows * n)) << i;
    }
    EXPECT_FALSE(dev->synchronize());
    EXPECT_EQ(emulated::counted().products - products, 6u); // four, one before, and one recorded
  }
}

TEST_F(wide_products_test, the_check_of_a_device_reaches_the_library) {
  for (const bool is_hopper : {false, true}) {
    cuda_emulation::set_capability(is_hopper ? 9 : 8, 0);
    emulated::reset();
    const auto dev = open();
    EXPECT_FALSE(self_check(*dev));
    EXPECT_EQ(emulated::counted().products, 0u);
    EXPECT_FALSE(self_check(*dev, products::fastest));
    EXPECT_EQ(emulated::counted().products, 7u);
    EXPECT_EQ(emulated::counted().f8_products, is_hopper ? 1u : 0u);
    emulated::reset({.is_wrong = true});
    const auto why = describe(self_check(*dev, products::fastest));
    EXPECT_NE(why.find("take `products: invariant`"), std::string::npos) << why;
  }
}

TEST_F(wide_products_test, a_failing_device_is_reported_as_ever) {
  const auto dev = open();
  const test_weight w{random, dtype::q8_0, 16, 64};
  products_of(*dev, w.get(), 256);
  cuda_emulation::fail_next(cudaErrorIllegalAddress, true);
  products_of(*dev, w.get(), 256);
  const auto why = describe(dev->synchronize());
  cuda_emulation::fail_next(cudaSuccess);
  EXPECT_NE(why.find("linear on cuda:0 (emulated, cuBLASLt 13.1.2)"), std::string::npos) << why;
}

} // namespace
} // namespace troupe::gpu
