#include <benchmark/benchmark.h>
#include <sys/mman.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <span>
#include <thread>

#include "cli/bench/ceilings.hpp"
#include "tests/gpu/random_ops.hpp"

/// Speed of the CPU backend beside what the machine could do. Every memory-bound number comes with
/// `of_floor`, its share of the bandwidth that a plain read loop of all threads reaches in the same
/// run; every arithmetic one with GFLOP/s. Neighbours make noise: compare the best of several runs
/// (--benchmark_repetitions=5).
namespace troupe::gpu {
namespace {

using bench_clock = std::chrono::steady_clock;

std::unique_ptr<device> make_device() { return make_cpu_device(); }

/// Random bf16 bits without NaN or infinity, in a set larger than any cache; on huge pages, as the
/// weights of a model are. Lives until the end.
std::span<const uint16_t> big_memory() {
  static const std::span<const uint16_t> memory = [] {
    constexpr size_t size_bytes = size_t{512} << 20, page = size_t{2} << 20;
    void* data = std::aligned_alloc(page, size_bytes);
    madvise(data, size_bytes, MADV_HUGEPAGE);
    const std::span<uint16_t> values{static_cast<uint16_t*>(data), size_bytes / sizeof(uint16_t)};
    uint32_t state = 1;
    for (auto& value : values) {
      state = state * 1664525u + 1013904223u;
      value = static_cast<uint16_t>(0x3c00u | (state >> 16 & 0x80ffu)); // small, both signs
    }
    return values;
  }();
  return memory;
}

/// Bytes per second that all cores together read from memory in the best pattern known.
double measure_bandwidth() {
  constexpr uint64_t set_bytes = uint64_t{512} << 20;
  static const auto dev = make_device();
  static cli::bench::read_probe probe{std::max(1u, std::thread::hardware_concurrency()), *dev};
  probe.measure(set_bytes);
  return probe.best(set_bytes)->bytes_per_second;
}

void dram_read(benchmark::State& state) {
  double best = 0;
  for (auto _ : state)
    best = std::max(best, measure_bandwidth());
  state.counters["GB/s"] = best / 1e9;
}

/// The ceilings of `linear`: all cores multiply registers.
void register_peaks(benchmark::State& state) {
  std::map<std::string, double> best;
  for (auto _ : state)
    for (int round = 0; round < 10; ++round)
      for (const auto& one : cli::bench::measure_compute(std::thread::hardware_concurrency()))
        best[one.name] = std::max(best[one.name], one.ops_per_second);
  for (const auto& [name, ops] : best)
    state.counters[name + " Gop/s"] = ops / 1e9;
}

/// A weight of any type that `linear` takes, blocks in the layout that the device likes best.
class bench_weight {
public:
  bench_weight(device& dev, dtype type, int64_t n, int64_t k)
      : plain_{random_, is_blocks(type) ? dtype::bf16 : type, is_blocks(type) ? 1 : n, k, false},
        weight_{plain_.get()} {
    if (!is_blocks(type))
      return;
    auto memory = dev.allocate(bytes_of(type, static_cast<uint64_t>(n * k)));
    blocks_ = std::move(*memory);
    const auto rows = test::random_blocks(random_, type, n, k);
    dev.quantize({{rows.data(), type, n, k}, blocks_.data(), type, dev.best_layout(type)});
    weight_ = {blocks_.data(), type, n, k, dev.best_layout(type)};
  }
  const weight& get() const { return weight_; }

private:
  test::random_data random_{1};
  test::random_weight plain_;
  buffer blocks_;
  weight weight_;
};

/// A few rows times matrices [n, k] that follow each other through a set larger than the caches.
void linear_decode(benchmark::State& state, dtype type, int64_t rows, int64_t n, int64_t k) {
  const auto dev = make_device();
  const auto memory = big_memory();
  test::random_data random{1};
  const auto x = random.floats(rows * k);
  std::vector<float> out(static_cast<size_t>(rows * n));
  const auto bytes = static_cast<int64_t>(bytes_of(type, static_cast<uint64_t>(n * k)));
  const auto matrices = static_cast<int64_t>(memory.size_bytes()) / bytes;
  const auto* base = reinterpret_cast<const unsigned char*>(memory.data());
  const double floor = measure_bandwidth();
  double best = 0;
  for (auto _ : state) {
    const auto start = bench_clock::now();
    for (int64_t m = 0; m < matrices; ++m) // bf16 numbers are finite as blocks' scales too
      dev->linear({x.data(),
                   {base + m * bytes, type, n, k, dev->best_layout(type)},
                   {},
                   out.data(),
                   rows,
                   k,
                   n});
    const std::chrono::duration<double> time = bench_clock::now() - start;
    best = std::max(best, static_cast<double>(matrices) / time.count());
  }
  benchmark::DoNotOptimize(out.data());
  state.counters["GB/s"] = best * static_cast<double>(bytes) / 1e9;
  state.counters["of_floor"] =
      best * static_cast<double>(bytes) / std::max(floor, measure_bandwidth());
  state.counters["GFLOP/s"] = best * static_cast<double>(2 * rows * n * k) / 1e9;
}

void linear_prefill(benchmark::State& state, const test::backend& which, dtype type, int64_t rows,
                    int64_t n, int64_t k) {
  const auto dev = which.make();
  const bench_weight w{*dev, type, n, k};
  test::random_data random{1};
  const auto x = random.floats(rows * k);
  std::vector<float> out(static_cast<size_t>(rows * n));
  double best = 0;
  for (auto _ : state) {
    const auto start = bench_clock::now();
    dev->linear({x.data(), w.get(), {}, out.data(), rows, k, n});
    const std::chrono::duration<double> time = bench_clock::now() - start;
    best = std::max(best, static_cast<double>(2 * rows * n * k) / time.count());
  }
  benchmark::DoNotOptimize(out.data());
  state.counters["GFLOP/s"] = best / 1e9;
}

/// What a load does with weights: rows of `from` become panels of `to`. GB/s are those of `from`.
void lay_out(benchmark::State& state, dtype from, dtype to, unsigned threads) {
  constexpr int64_t n = 8192, k = 2048, places = 4; // beyond the caches
  device_options options;
  options.threads = threads;
  const auto dev = make_cpu_device(options);
  const auto memory = big_memory();
  const auto* base = reinterpret_cast<const unsigned char*>(memory.data());
  const auto bytes = static_cast<int64_t>(bytes_of(from, n * k));
  const auto size = static_cast<int64_t>(bytes_of(to, n * k));
  const auto out = dev->allocate(static_cast<size_t>(places * size));
  const auto matrices = static_cast<int64_t>(memory.size_bytes()) / bytes;
  const auto write = [&](int64_t m) {
    dev->quantize({{base + m % matrices * bytes, from, n, k},
                   out->as<unsigned char>() + m % places * size,
                   to,
                   dev->best_layout(to)});
  };
  for (int64_t m = 0; m < places; ++m)
    write(m); // the memory is there
  double best = 0;
  for (auto _ : state) {
    const auto start = bench_clock::now();
    for (int64_t m = 0; m < places; ++m)
      write(m);
    const std::chrono::duration<double> time = bench_clock::now() - start;
    best = std::max(best, static_cast<double>(places * bytes) / time.count());
  }
  state.counters["GB/s"] = best / 1e9;
}

void attention(benchmark::State& state, test::attention_shape shape) {
  shape.layers = 8;
  const auto dev = make_device();
  test::random_data random{1};
  test::attention_case test{random, shape};
  test.write(*dev);
  std::vector<float> out(static_cast<size_t>(test.rows() * test.width()));
  const auto args = test.args(out.data());
  double flops = 0, bytes = 0;
  for (size_t s = 0; s < shape.rows.size(); ++s) {
    const double seen = shape.context[s] - (shape.rows[s] - 1) / 2.0;
    flops += 4.0 * shape.rows[s] * seen * static_cast<double>(test.width());
    bytes += 2.0 * shape.context[s] * static_cast<double>(shape.kv_heads * shape.head_dim) *
             static_cast<double>(size_of(shape.type));
  }
  double best = 1e9;
  for (auto _ : state) {
    const auto start = bench_clock::now();
    dev->attention(args);
    best = std::min(best, std::chrono::duration<double>(bench_clock::now() - start).count());
  }
  state.counters["GFLOP/s"] = flops / best / 1e9;
  state.counters["GB/s"] = bytes / best / 1e9;
}

void small_ops(benchmark::State& state) {
  const auto dev = make_device();
  test::random_data random{1};
  const test::random_weight w{random, dtype::bf16, 576, 576, false};
  const auto x = random.floats(576);
  std::vector<float> out(576);
  for (auto _ : state)
    dev->linear({x.data(), w.get(), {}, out.data(), 1, 576, 576});
}

void register_attention() {
  using test::attention_shape;
  const std::pair<const char*, attention_shape> shapes[] = {
      {"prefill/rows:512/heads:32/kv_heads:8/dim:64", {64, 8, 4, 16, 0, dtype::bf16, {512}, {512}}},
      {"prefill/rows:512/heads:16/kv_heads:8/dim:128",
       {128, 8, 2, 16, 0, dtype::bf16, {512}, {512}}},
      {"prefill/rows:512/context:4096/heads:32/kv_heads:8/dim:64",
       {64, 8, 4, 16, 0, dtype::bf16, {512}, {4096}}},
      {"decode/context:4096/heads:32/kv_heads:8/dim:64",
       {64, 8, 4, 16, 0, dtype::bf16, {1}, {4096}}},
      {"decode/context:4096/heads:9/kv_heads:3/dim:64",
       {64, 3, 3, 16, 0, dtype::bf16, {1}, {4096}}},
      {"decode/sequences:32/context:4096/heads:9/kv_heads:3/dim:64",
       {64, 3, 3, 16, 0, dtype::bf16, std::vector<int32_t>(32, 1), std::vector<int32_t>(32, 4096)}},
  };
  for (const auto& [name, shape] : shapes)
    benchmark::RegisterBenchmark((std::string{"gpu/cpu/attention/"} + name).c_str(), attention,
                                 shape)
        ->Iterations(20)
        ->UseRealTime()
        ->Unit(benchmark::kMicrosecond);
}

void register_lay_out() {
  const std::pair<dtype, dtype> ways[] = {{dtype::bf16, dtype::bf16}, {dtype::q8_0, dtype::q8_0},
                                          {dtype::q4_0, dtype::q4_0}, {dtype::q4_k, dtype::q4_k},
                                          {dtype::q5_k, dtype::q5_k}, {dtype::q6_k, dtype::q6_k},
                                          {dtype::bf16, dtype::q8_0}, {dtype::bf16, dtype::q4_0}};
  for (const auto& [from, to] : ways)
    for (const unsigned threads : {1u, 2u})
      benchmark::RegisterBenchmark(("gpu/cpu/lay_out/from:" + std::string{to_string(from)} +
                                    "/to:" + std::string{to_string(to)} +
                                    "/threads:" + std::to_string(threads))
                                       .c_str(),
                                   lay_out, from, to, threads)
          ->Iterations(5)
          ->UseRealTime()
          ->Unit(benchmark::kMillisecond);
}

void register_all() {
  benchmark::RegisterBenchmark("gpu/cpu/dram_read", dram_read)->Iterations(1);
  benchmark::RegisterBenchmark("gpu/cpu/register_peaks", register_peaks)->Iterations(1);
  // Projections of Llama-3.2-1B, Qwen2.5-0.5B (4864 x 896) and SmolLM2-135M (576, 1536 x 576).
  const auto is_whole = [](dtype type, int k) {
    return k % static_cast<int>(layout_of(type).elements) == 0;
  };
  for (const auto type : {dtype::bf16, dtype::q8_0, dtype::q4_0, dtype::q5_0, dtype::q4_k,
                          dtype::q5_k, dtype::q6_k, dtype::f8_b128})
    for (const auto& [n, k] : {std::pair{2048, 2048},
                               {8192, 2048},
                               {2048, 8192},
                               {4864, 896},
                               {896, 4864},
                               {1536, 576},
                               {576, 576}})
      for (const int rows : is_whole(type, k) ? std::vector{1, 4, 8, 32} : std::vector<int>{})
        benchmark::RegisterBenchmark(("gpu/cpu/linear_decode/type:" + std::string{to_string(type)} +
                                      "/rows:" + std::to_string(rows) + "/n:" + std::to_string(n) +
                                      "/k:" + std::to_string(k))
                                         .c_str(),
                                     linear_decode, type, rows, n, k)
            ->Iterations(4)
            ->UseRealTime()
            ->Unit(benchmark::kMillisecond);
  benchmark::RegisterBenchmark("gpu/cpu/linear_small/n:576/k:576", small_ops)->UseRealTime();
  for (const auto& which : test::all_backends())
    for (const auto type : {dtype::f32, dtype::bf16, dtype::q8_0, dtype::q4_0, dtype::q4_k,
                            dtype::q6_k, dtype::f8_b128})
      for (const auto& [rows, n, k] : {std::tuple{16, 2048, 2048},
                                       {64, 2048, 2048},
                                       {512, 2048, 2048},
                                       {512, 8192, 2048},
                                       {512, 2048, 8192},
                                       {512, 4864, 896},
                                       {512, 1536, 576}}) {
        if (!is_whole(type, k))
          continue;
        benchmark::RegisterBenchmark(("gpu/cpu/linear_prefill/isa:" + which.isa +
                                      "/type:" + std::string{to_string(type)} +
                                      "/rows:" + std::to_string(rows) + "/n:" + std::to_string(n) +
                                      "/k:" + std::to_string(k))
                                         .c_str(),
                                     linear_prefill, which, type, rows, n, k)
            ->Iterations(5)
            ->UseRealTime()
            ->Unit(benchmark::kMillisecond);
      }
  for (const auto type : {dtype::bf16, dtype::q8_0, dtype::q4_0})
    for (const unsigned threads : {1u, 2u}) {
      const test::backend which{"", precision::automatic, threads};
      const auto name = std::string{to_string(type)} + "/threads:" + std::to_string(threads);
      benchmark::RegisterBenchmark(("gpu/cpu/linear_threads/type:" + name).c_str(), linear_prefill,
                                   which, type, 512, 2048, 2048)
          ->Iterations(5)
          ->UseRealTime()
          ->Unit(benchmark::kMillisecond);
    }
  register_attention();
  register_lay_out();
}

} // namespace
} // namespace troupe::gpu

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv))
    return 1;
  troupe::gpu::register_all();
  benchmark::RunSpecifiedBenchmarks();
}
