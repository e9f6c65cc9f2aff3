#include <gtest/gtest.h>

#include <cmath>
#include <deque>

#include "gpu/cpu/blocks.hpp"
#include "tests/gpu/random_ops.hpp"

namespace troupe::gpu {
namespace {

using namespace test;

/// A bf16 weight in rows, and the same in panels; that one's memory ends where the weight does.
class bf16_panels {
public:
  bf16_panels(random_data& random, device& by, int64_t rows, int64_t cols)
      : rows_{random, dtype::bf16, rows, cols},
        bytes_(bytes_of(dtype::bf16, static_cast<uint64_t>(rows * cols))) {
    by.quantize({rows_.get(), bytes_.data(), dtype::bf16, weight_layout::panels});
  }
  weight rows() const { return rows_.get(); }
  weight panels() const {
    auto out = rows_.get();
    out.data = bytes_.data();
    out.layout = weight_layout::panels;
    return out;
  }

private:
  random_weight rows_;
  std::vector<unsigned char> bytes_;
};

/// bf16 weights in panels on every instruction set, whether or not it would lay them out itself.
class panels_test : public testing::TestWithParam<backend> {
protected:
  std::unique_ptr<device> fast = GetParam().make();
  std::unique_ptr<device> reference = make_reference_device();
};

INSTANTIATE_TEST_SUITE_P(isas, panels_test, testing::ValuesIn(all_modes()),
                         [](const auto& info) { return info.param.name(); });

TEST_P(panels_test, hold_the_same_numbers) {
  random_data random{31};
  const bf16_panels w{random, *fast, 53, 96};
  for (int64_t row = 0; row < 53; ++row)
    for (int64_t col = 0; col < 96; ++col)
      ASSERT_EQ(cpu::load_any(w.panels(), row, col), cpu::load_any(w.rows(), row, col));
}

TEST_P(panels_test, linear_matches_the_reference) {
  random_data random{32};
  for (int round = 0; round < 40; ++round) {
    const int64_t rows = random.one_of<int64_t>({1, 2, 3, 4, 6, 7, 50, 97});
    const int64_t n = random.between(1, 300), k = 32 * random.between(1, 40);
    const bf16_panels w{random, *reference, n, k};
    const random_weight bias{random, dtype::bf16, 1, n};
    auto x = random.floats(rows * k);
    round_to_bf16(x);
    auto got = random.floats(rows * n);
    auto want = got;
    linear_args args{x.data(), w.panels(), bias.get(), got.data(), rows, k, n};
    args.accumulate = round % 2 == 1;
    fast->linear(args);
    args.out = want.data();
    args.w = w.rows();
    reference->linear(args);
    for (int64_t i = 0; i < rows * n; ++i) {
      float magnitude = 1;
      for (int64_t c = 0; c < k; ++c)
        magnitude +=
            std::abs(x[static_cast<size_t>(i / n * k + c)] * cpu::load_any(args.w, i % n, c));
      ASSERT_NEAR(got[static_cast<size_t>(i)], want[static_cast<size_t>(i)], magnitude * 2e-6f)
          << rows << "x" << n << "x" << k << " at " << i;
    }
  }
}

TEST_P(panels_test, rows_alone_and_in_any_batch_have_the_same_bits) {
  random_data random{33};
  for (const int64_t k : {32, 1120, 2048}) {
    const int64_t rows = 101, n = 150;
    const bf16_panels w{random, *reference, n, k};
    const auto x = random.floats(rows * k);
    std::vector<float> alone(static_cast<size_t>(rows * n));
    linear_args args{x.data(), w.panels(), {}, alone.data(), 1, k, n};
    for (int64_t i = 0; i < rows; ++i) {
      args.x = x.data() + i * k;
      args.out = alone.data() + i * n;
      fast->linear(args);
    }
    for (const int64_t count : {2, 3, 4, 5, 6, 7, 8, 12, 48, 49, 101}) {
      std::vector<float> batch(static_cast<size_t>(count * n));
      args.x = x.data() + (rows - count) * k;
      args.out = batch.data();
      args.rows = count;
      fast->linear(args);
      ASSERT_TRUE(same_bits(batch.data(), alone.data() + (rows - count) * n, count * n))
          << "k " << k << " rows " << count;
    }
  }
}

TEST_P(panels_test, more_threads_than_the_outputs_have_tiles_give_the_same_bits) {
  random_data random{35};
  for (const int64_t n : {7, 16, 100, 500})
    for (const auto type : {dtype::bf16, dtype::q8_0, dtype::q4_0, dtype::q5_1, dtype::q4_k,
                            dtype::q6_k, dtype::f8_b128}) {
      const int64_t rows = 5, k = 4096;
      const random_weight plain{random, dtype::bf16, n, k};
      auto from = plain.get();
      const auto blocks =
          is_blocks(type) ? random_blocks(random, type, n, k) : std::vector<unsigned char>{};
      if (is_blocks(type))
        from = {blocks.data(), type, n, k};
      std::vector<unsigned char> bytes(bytes_of(type, static_cast<uint64_t>(n * k)));
      fast->quantize({from, bytes.data(), type, weight_layout::panels});
      const auto x = random.floats(rows * k);
      std::vector<float> first;
      for (const unsigned threads : {1u, 2u, 7u}) {
        auto which = GetParam();
        which.threads = threads;
        std::vector<float> out(static_cast<size_t>(rows * n));
        linear_args args{
            x.data(), {bytes.data(), type, n, k, weight_layout::panels}, {}, out.data(), rows, k,
            n};
        which.make()->linear(args);
        if (threads == 1)
          first = out;
        EXPECT_TRUE(same_bits(out.data(), first.data(), rows * n)) << n << " " << threads;
      }
    }
}

/// A weight of any type, in panels or in rows.
struct any_weight {
  any_weight(random_data& random, device& by, dtype type, weight_layout layout, int64_t n,
             int64_t k)
      : plain{random, is_blocks(type) ? dtype::bf16 : type, n, k}, w{plain.get()} {
    if (is_blocks(type)) {
      blocks = random_blocks(random, type, n, k);
      w = {blocks.data(), type, n, k};
    }
    if (layout == weight_layout::rows)
      return;
    laid_out.resize(bytes_of(type, static_cast<uint64_t>(n * k)));
    by.quantize({w, laid_out.data(), type, layout});
    w.data = laid_out.data();
    w.layout = layout;
  }
  random_weight plain;
  std::vector<unsigned char> blocks, laid_out;
  weight w;
};

TEST_P(panels_test, products_in_a_group_have_the_bits_of_each_alone) {
  random_data random{36};
  for (int round = 0; round < 30; ++round) {
    const int64_t rows = random.one_of<int64_t>({1, 2, 7, 50}), k = 256 * random.between(1, 4);
    const auto x = random.floats(rows * k);
    std::deque<any_weight> weights;
    std::deque<random_weight> biases;
    std::vector<std::vector<float>> outs;
    std::vector<linear_args> group;
    for (int64_t i = random.between(1, 7); i > 0; --i) {
      const auto n = random.between(0, 9) == 0 ? 0 : random.between(1, 300);
      const auto type =
          random.one_of({dtype::f32, dtype::bf16, dtype::bf16, dtype::q8_0, dtype::q8_0,
                         dtype::q4_k, dtype::q4_k, dtype::q6_k, dtype::f8_b128, dtype::f8_b128});
      const bool in_panels = type != dtype::f32 && random.between(0, 3) != 0;
      weights.emplace_back(random, *reference, type,
                           in_panels ? weight_layout::panels : weight_layout::rows, n, k);
      biases.emplace_back(random, dtype::bf16, 1, n);
      outs.push_back(random.floats(rows * n));
      linear_args args{x.data(), weights.back().w, {}, nullptr, rows, k, n};
      args.bias = random.between(0, 1) == 0 ? biases.back().get() : weight{};
      args.accumulate = random.between(0, 1) == 0;
      group.push_back(args);
    }
    auto want = outs;
    for (size_t i = 0; i < group.size(); ++i) {
      group[i].out = want[i].data();
      fast->linear(group[i]);
      group[i].out = outs[i].data();
    }
    fast->linear_group(group);
    for (size_t i = 0; i < group.size(); ++i)
      EXPECT_TRUE(same_bits(outs[i].data(), want[i].data(), rows * group[i].w.rows))
          << "round " << round << ", " << i << " of " << group.size() << ": "
          << to_string(group[i].w.type);
  }
}

TEST_P(panels_test, embeddings_are_the_same_as_from_rows) {
  random_data random{34};
  const bf16_panels w{random, *fast, 53, 96};
  const std::vector<int32_t> ids{0, 15, 16, 47, 48, 52, 3};
  std::vector<float> got(ids.size() * 96), want(got.size());
  for (auto* dev : {fast.get(), reference.get()}) {
    dev->embedding({w.panels(), ids.data(), got.data(), 7, 0.5f});
    dev->embedding({w.rows(), ids.data(), want.data(), 7, 0.5f});
    EXPECT_TRUE(same_bits(got.data(), want.data(), static_cast<int64_t>(got.size())));
  }
}

} // namespace
} // namespace troupe::gpu
