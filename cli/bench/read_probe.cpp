#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

#include "cli/bench/ceilings.hpp"
#include "cli/bench/machine.hpp"

namespace troupe::cli::bench {
namespace {

using clock = std::chrono::steady_clock;

constexpr uint64_t mib = uint64_t{1} << 20;
constexpr uint64_t row_bytes = 4096;
constexpr uint64_t chunk_bytes = mib; ///< what a thread takes at a time when they take turns
constexpr int64_t matrix_cols = 2048;

uint64_t rounded(uint64_t set_bytes) {
  const uint64_t most = std::max(64 * mib, std::min(1024 * mib, free_memory_bytes() / 4));
  return std::clamp(set_bytes / (32 * mib) * (32 * mib), 64 * mib, most / (32 * mib) * (32 * mib));
}

/// Reads [from, from + size) as groups of `rows` rows that lie one behind another, a cache line of
/// each in turn: one stream per core does not fill the memory bus.
template <class Vector>
[[gnu::always_inline]] inline uint64_t read_rows(const std::byte* from, uint64_t size,
                                                 uint64_t rows) {
  Vector sum{};
  for (uint64_t group = 0; group < size; group += rows * row_bytes)
    for (uint64_t at = 0; at < row_bytes; at += 64)
      for (uint64_t row = 0; row < rows; ++row) {
        const auto* line = reinterpret_cast<const Vector*>(from + group + row * row_bytes + at);
        for (size_t i = 0; i < 64 / sizeof(Vector); ++i)
          sum ^= line[i];
      }
  uint64_t words[sizeof(Vector) / 8], out = 0;
  std::memcpy(words, &sum, sizeof sum);
  for (const auto word : words)
    out ^= word;
  return out;
}

using reader = uint64_t (*)(const std::byte* from, uint64_t size, uint64_t rows);
typedef uint64_t words_2 [[gnu::vector_size(16), gnu::may_alias]];
typedef uint64_t words_4 [[gnu::vector_size(32), gnu::may_alias]];
typedef uint64_t words_8 [[gnu::vector_size(64), gnu::may_alias]];

uint64_t read_16(const std::byte* from, uint64_t size, uint64_t rows) {
  return read_rows<words_2>(from, size, rows);
}
[[gnu::target("avx2")]] uint64_t read_32(const std::byte* from, uint64_t size, uint64_t rows) {
  return read_rows<words_4>(from, size, rows);
}
[[gnu::target("avx512f")]] uint64_t read_64(const std::byte* from, uint64_t size, uint64_t rows) {
  return read_rows<words_8>(from, size, rows);
}

reader widest_reader() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") ? read_64
         : __builtin_cpu_supports("avx2")  ? read_32
                                           : read_16;
}

/// Anonymous memory with every page present. Empty if there is none.
class mapping {
public:
  mapping(uint64_t size, bool huge) : size_{size} {
    // Room to begin at a border of huge pages.
    whole_ =
        mmap(nullptr, size + 2 * mib, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (whole_ == MAP_FAILED)
      return;
    madvise(whole_, size + 2 * mib, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    data_ = reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(whole_) + 2 * mib - 1) /
                                         (2 * mib) * (2 * mib));
    std::memset(data_, 0x3c, size); // as bf16: ordinary small numbers
  }
  ~mapping() {
    if (whole_ != MAP_FAILED)
      munmap(whole_, size_ + 2 * mib);
  }
  mapping(const mapping&) = delete;
  mapping& operator=(const mapping&) = delete;
  std::byte* data() const { return data_; }

private:
  uint64_t size_;
  void* whole_ = MAP_FAILED;
  std::byte* data_ = nullptr;
};

struct pattern {
  uint64_t rows;
  bool turns; ///< threads take chunks in turns; otherwise each has a part of its own

  std::string name(bool huge) const {
    return std::to_string(rows) + (rows == 1 ? " row" : " rows side by side") +
           (turns ? ", threads in turns" : ", threads apart") +
           (huge ? ", huge pages" : ", plain pages");
  }
};

/// Bytes per second of one go over the set, or of as many as make 128 MiB.
double read_once(const std::byte* data, uint64_t set, unsigned threads, const pattern& how) {
  static const reader read = widest_reader();
  static std::atomic<uint64_t> sink;
  const uint64_t passes = std::max<uint64_t>(1, 128 * mib / set);
  const uint64_t chunks = set / chunk_bytes;
  std::atomic<uint64_t> next{0};
  const auto work = [&](unsigned thread) {
    uint64_t sum = 0;
    if (how.turns)
      for (auto at = next++; at < chunks * passes; at = next++)
        sum ^= read(data + at % chunks * chunk_bytes, chunk_bytes, how.rows);
    else
      for (uint64_t pass = 0; pass < passes; ++pass) {
        const auto from = chunks * thread / threads, to = chunks * (thread + 1) / threads;
        sum ^= read(data + from * chunk_bytes, (to - from) * chunk_bytes, how.rows);
      }
    sink ^= sum; // so that the reads are not thrown away
  };
  const auto begun = clock::now();
  std::vector<std::thread> helpers;
  for (unsigned i = 1; i < threads; ++i)
    helpers.emplace_back(work, i);
  work(0);
  for (auto& helper : helpers)
    helper.join();
  const std::chrono::duration<double> took = clock::now() - begun;
  return static_cast<double>(chunks * chunk_bytes * passes) / took.count();
}

/// The same of the device's product of one row with a bf16 matrix that fills the set.
double multiply_once(const std::byte* data, uint64_t set, gpu::device& device) {
  const gpu::weight w{data, dtype::bf16,
                      static_cast<int64_t>(set / (matrix_cols * sizeof(uint16_t))), matrix_cols};
  std::vector<float> x(matrix_cols, 1.0f), out(static_cast<size_t>(w.rows));
  gpu::linear_args args;
  args.x = x.data();
  args.w = w;
  args.out = out.data();
  args.rows = 1;
  args.x_stride = w.cols;
  args.out_stride = w.rows;
  const auto begun = clock::now();
  device.linear(args);
  const std::chrono::duration<double> took = clock::now() - begun;
  return static_cast<double>(w.rows * w.cols) * sizeof(uint16_t) / took.count();
}

} // namespace

void read_probe::note(uint64_t set, double bytes_per_second, const std::string& pattern) {
  auto& best = best_[set];
  if (bytes_per_second > best.bytes_per_second)
    best = {set, bytes_per_second, pattern};
}

void read_probe::measure_mapping(uint64_t set, bool huge) {
  const mapping memory{set, huge};
  if (memory.data() == nullptr)
    return;
  std::vector<std::pair<double, pattern>> seen;
  for (const uint64_t rows : {1, 2, 4, 8, 16, 32})
    for (const bool turns : {false, true}) {
      const pattern how{rows, turns};
      seen.emplace_back(read_once(memory.data(), set, threads_, how), how);
    }
  std::ranges::sort(seen, std::greater{}, [](const auto& one) { return one.first; });
  note(set, seen[0].first, seen[0].second.name(huge));
  // The best ones again: which of them wins is chance, and so is whether somebody disturbed it.
  for (int round = 0; round < 3; ++round)
    for (size_t i = 0; i < 3; ++i)
      note(set, read_once(memory.data(), set, threads_, seen[i].second), seen[i].second.name(huge));
  if (!device_.reads_host_memory())
    return;
  for (int round = 0; round < 4; ++round)
    note(set, multiply_once(memory.data(), set, device_),
         std::string{"one row times a bf16 matrix, "} + (huge ? "huge pages" : "plain pages"));
}

void read_probe::measure(uint64_t set_bytes) {
  const auto set = rounded(set_bytes);
  for (const bool huge : {false, true})
    measure_mapping(set, huge);
}

const read_ceiling* read_probe::best(uint64_t set_bytes) const {
  const auto at = best_.find(rounded(set_bytes));
  return at == best_.end() ? nullptr : &at->second;
}

std::vector<read_ceiling> read_probe::all() const {
  std::vector<read_ceiling> out;
  for (const auto& [size, one] : best_)
    out.push_back(one);
  return out;
}

} // namespace troupe::cli::bench
