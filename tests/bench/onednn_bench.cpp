#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <numeric>
#include <thread>

#include <dnnl.hpp>

#include "cli/bench/ceilings.hpp"
#include "tests/gpu/random_ops.hpp"

/// The matrix products of the CPU backend beside oneDNN's, in turns in one run: bf16 with bf16
/// weights, and bytes with 8-bit weights. oneDNN's weights are in the layout that it asks for, its
/// activations are bf16 or bytes already; ours arrive as float and are rounded within the product,
/// and our 8-bit weights carry a scale per 32, which oneDNN's have not. Every call meets weights
/// that no cache holds, as a model's are.
namespace troupe::gpu {
namespace {

using bench_clock = std::chrono::steady_clock;
using dims = dnnl::memory::dims;
using dnnl::memory;

constexpr int64_t set_bytes = int64_t{256} << 20;
constexpr int rounds = 7;

struct product {
  int64_t rows, n, k;
  double operations() const { return 2.0 * static_cast<double>(rows * n * k); }
};

/// Seconds per product of one pass over `matrices` of them.
double seconds_per_product(int64_t matrices, const std::function<void(int64_t)>& multiply) {
  const auto start = bench_clock::now();
  for (int64_t m = 0; m < matrices; ++m)
    multiply(m);
  const std::chrono::duration<double> time = bench_clock::now() - start;
  return time.count() / static_cast<double>(matrices);
}

/// Copies of one random weight [n, k], laid out as the device likes it.
class our_products {
public:
  our_products(const product& shape, dtype type)
      : shape_{shape}, bytes_{bytes_of(type, static_cast<uint64_t>(shape.n * shape.k))},
        out_(static_cast<size_t>(shape.rows * shape.n)) {
    test::random_data random{1};
    x_ = random.floats(shape.rows * shape.k);
    const test::random_weight plain{random, dtype::bf16, shape.n, shape.k, false};
    const auto copies = std::max<int64_t>(set_bytes / static_cast<int64_t>(bytes_), 1);
    for (int64_t i = 0; i < copies; ++i) {
      auto memory = device_->allocate(bytes_);
      const auto layout = device_->best_layout(type);
      device_->quantize({plain.get(), memory->data(), type, layout});
      weights_.push_back({memory->data(), type, shape.n, shape.k, layout});
      memories_.push_back(std::move(*memory));
    }
  }

  double seconds() {
    return seconds_per_product(static_cast<int64_t>(weights_.size()), [&](int64_t m) {
      device_->linear({x_.data(),
                       weights_[static_cast<size_t>(m)],
                       {},
                       out_.data(),
                       shape_.rows,
                       shape_.k,
                       shape_.n});
    });
  }

private:
  product shape_;
  size_t bytes_;
  std::unique_ptr<device> device_ = make_cpu_device();
  std::vector<float> x_, out_;
  std::vector<buffer> memories_;
  std::vector<weight> weights_;
};

class their_products {
public:
  their_products(const product& shape, bool bytes) {
    using type = memory::data_type;
    const auto any = memory::format_tag::any, rows = memory::format_tag::ab;
    const auto x_type = bytes ? type::u8 : type::bf16, w_type = bytes ? type::s8 : type::bf16;
    const memory::desc x{dims{shape.rows, shape.k}, x_type, rows};
    const memory::desc w{dims{shape.k, shape.n}, w_type, any};
    const memory::desc out{dims{shape.rows, shape.n}, type::f32, rows};
    const dnnl::matmul::primitive_desc chosen{dnnl::matmul::desc{x, w, out}, engine_};
    multiply_ = dnnl::matmul{chosen};
    x_ = filled(chosen.src_desc());
    out_ = filled(chosen.dst_desc());
    const auto one = static_cast<int64_t>(chosen.weights_desc().get_size());
    for (int64_t i = 0; i < std::max<int64_t>(set_bytes / one, 1); ++i)
      weights_.push_back(filled(chosen.weights_desc()));
  }

  double seconds() {
    return seconds_per_product(static_cast<int64_t>(weights_.size()), [&](int64_t m) {
      multiply_.execute(stream_, {{DNNL_ARG_SRC, x_},
                                  {DNNL_ARG_WEIGHTS, weights_[static_cast<size_t>(m)]},
                                  {DNNL_ARG_DST, out_}});
      stream_.wait();
    });
  }

private:
  /// Small finite numbers in any of the types: 0x3c3c is one of them as bf16, 0x3c as a byte.
  memory filled(const memory::desc& what) {
    memory out{what, engine_};
    std::memset(out.get_data_handle(), 0x3c, what.get_size());
    return out;
  }

  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  dnnl::matmul multiply_;
  memory x_, out_;
  std::vector<memory> weights_;
};

double median(std::vector<double> values) {
  std::ranges::nth_element(values, values.begin() + values.size() / 2);
  return values[values.size() / 2];
}

void compare(const product& shape, bool bytes) {
  our_products ours{shape, bytes ? dtype::q8_0 : dtype::bf16};
  their_products theirs{shape, bytes};
  std::vector<double> our_rate, their_rate;
  ours.seconds(); // threads and code are made
  theirs.seconds();
  for (int round = 0; round < rounds; ++round) {
    our_rate.push_back(shape.operations() / ours.seconds() / 1e9);
    their_rate.push_back(shape.operations() / theirs.seconds() / 1e9);
  }
  std::printf("| %s | %ld | %ld x %ld | %.0f [%.0f..%.0f] | %.0f [%.0f..%.0f] | %.2f |\n",
              bytes ? "int8" : "bf16", shape.rows, shape.n, shape.k, median(our_rate),
              *std::ranges::min_element(our_rate), *std::ranges::max_element(our_rate),
              median(their_rate), *std::ranges::min_element(their_rate),
              *std::ranges::max_element(their_rate), median(our_rate) / median(their_rate));
  std::fflush(stdout);
}

} // namespace
} // namespace troupe::gpu

int main() {
  using troupe::gpu::compare;
  for (const auto& one :
       troupe::cli::bench::measure_compute(std::max(1u, std::thread::hardware_concurrency())))
    std::printf("registers alone, %s: %.0f Gop/s\n", one.name.c_str(), one.ops_per_second / 1e9);
  std::printf("oneDNN %d.%d.%d\n\n", dnnl_version()->major, dnnl_version()->minor,
              dnnl_version()->patch);
  std::puts("| weights | rows | n x k | troupe, Gop/s | oneDNN, Gop/s | ratio |\n"
            "| --- | --- | --- | --- | --- | --- |");
  // Projections of SmolLM2-135M, Qwen2.5-0.5B and Llama-3.2-1B.
  for (const bool bytes : {false, true})
    for (const int64_t rows : {8, 32, 512})
      for (const auto& [n, k] : {std::pair<int64_t, int64_t>{1536, 576},
                                 {576, 1536},
                                 {4864, 896},
                                 {896, 4864},
                                 {2048, 2048},
                                 {8192, 2048},
                                 {2048, 8192}})
        compare({rows, n, k}, bytes);
}
