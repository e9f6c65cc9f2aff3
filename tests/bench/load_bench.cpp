#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "storage/pipeline/load_pipeline.hpp"
#include "storage/pool/chunk_view.hpp"

/// What bringing weights from a disk through the host pool costs, beside what the machine could do.
///
///   load_bench DIRECTORY [GIGABYTES] [ROUNDS] [--sweep]
///   load_bench --load FILE POOL SHARE
///
/// Makes a file of random bytes in DIRECTORY (on the disk that is meant) unless it is there
/// already. Medians of the rounds; the variants of one round run one after the other, so that
/// ratios hold even where absolute figures drift. --sweep prints the reader's rate by piece and
/// depth instead. --load is one load of FILE, for tiers_bench.py: the pool at POOL, which stays, is
/// made to hold the first SHARE of its chunks (as far as it does already), and what the load took
/// is printed as JSON.
namespace {

using namespace troupe::storage;
using clock_type = std::chrono::steady_clock;
namespace fs = std::filesystem;

constexpr uint32_t chunk_bytes = 4u << 20;

struct timing {
  double seconds = 0;
  double cpu_seconds = 0;
};

double cpu_now() {
  struct rusage use {};
  ::getrusage(RUSAGE_SELF, &use);
  const auto seconds = [](const timeval& x) {
    return static_cast<double>(x.tv_sec) + static_cast<double>(x.tv_usec) * 1e-6;
  };
  return seconds(use.ru_utime) + seconds(use.ru_stime);
}

timing timed(const std::function<void()>& work) {
  const auto cpu = cpu_now();
  const auto start = clock_type::now();
  work();
  return {std::chrono::duration<double>(clock_type::now() - start).count(), cpu_now() - cpu};
}

[[noreturn]] void give_up(const std::string& why) {
  std::fprintf(stderr, "load_bench: %s\n", why.c_str());
  std::exit(1);
}

template <class T>
T need(caf::expected<T> x) {
  if (!x)
    give_up(troupe::describe(x.error()));
  return std::move(*x);
}

void make_file(const fs::path& path, uint64_t bytes) {
  std::error_code none;
  if (fs::file_size(path, none) == bytes)
    return;
  std::mt19937_64 random{1};
  std::vector<uint64_t> block((1 << 20) / 8);
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  for (uint64_t at = 0; at < bytes;) {
    for (auto& word : block)
      word = random();
    const auto wrote = ::write(fd, block.data(), std::min<uint64_t>(bytes - at, 1 << 20));
    if (wrote <= 0)
      give_up("cannot write " + path.string());
    at += static_cast<uint64_t>(wrote);
  }
  ::fsync(fd);
  ::close(fd);
}

void drop_cache(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY);
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  ::close(fd);
}

/// The plainest fast way: one thread, O_DIRECT, large blocks, one buffer that is never looked at.
void read_plainly(const fs::path& path) {
  constexpr size_t block = 16u << 20;
  static auto* buffer = static_cast<char*>(std::aligned_alloc(4096, block));
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECT);
  off_t at = 0;
  for (ssize_t got = 1; got > 0; at += got)
    got = ::pread(fd, buffer, block, at);
  ::close(fd);
}

/// Waits for a number of things to end.
class latch {
public:
  explicit latch(size_t count) : left_{count} {}
  void end(const caf::error& why) {
    if (why)
      give_up(troupe::describe(why));
    const std::lock_guard guard{mutex_};
    if (--left_ == 0)
      ended_.notify_all();
  }
  void wait() {
    std::unique_lock guard{mutex_};
    ended_.wait(guard, [this] { return left_ == 0; });
  }

private:
  std::mutex mutex_;
  std::condition_variable ended_;
  size_t left_;
};

void sweep(const fs::path& path, int rounds) {
  const auto bytes = fs::file_size(path);
  auto* buffer = static_cast<std::byte*>(std::aligned_alloc(4096, uint64_t{16} * chunk_bytes));
  std::memset(buffer, 1, uint64_t{16} * chunk_bytes);
  for (const auto backend : {disk_backend::io_uring, disk_backend::threads})
    for (const uint32_t piece : {256u << 10, 512u << 10, 1u << 20, 4u << 20})
      for (const uint32_t depth : {2u, 4u, 8u, 16u, 32u}) {
        auto reader = make_disk_reader({backend, piece, depth});
        if (!reader)
          continue;
        std::vector<double> rates;
        for (int round = 0; round < rounds; ++round) {
          drop_cache(path);
          const auto file = need(disk_file::open(path));
          const auto time = timed([&] {
            latch all{(bytes + chunk_bytes - 1) / chunk_bytes};
            for (uint64_t at = 0; at < bytes; at += chunk_bytes)
              (*reader)->read(file, at,
                              {buffer + at / chunk_bytes % 16 * chunk_bytes,
                               std::min<uint64_t>(chunk_bytes, bytes - at)},
                              [&](const caf::error& why) { all.end(why); });
            all.wait();
          });
          rates.push_back(static_cast<double>(bytes) / time.seconds / 1e9);
        }
        std::sort(rates.begin(), rates.end());
        std::printf("%s piece %4u KiB depth %2u: %.2f GB/s\n",
                    backend == disk_backend::io_uring ? "io_uring" : "threads ", piece >> 10, depth,
                    rates[rates.size() / 2]);
      }
  std::free(buffer);
}

struct row {
  std::string name;
  std::vector<timing> rounds;
  double bytes = 0;
};

void print(std::vector<row>& rows) {
  std::printf("| what | GB/s [min..max] | CPU s per s | seconds |\n| --- | --- | --- | --- |\n");
  for (auto& one : rows) {
    std::sort(one.rounds.begin(), one.rounds.end(),
              [](const timing& a, const timing& b) { return a.seconds < b.seconds; });
    const auto& middle = one.rounds[one.rounds.size() / 2];
    const auto rate = [&](const timing& x) { return one.bytes / x.seconds / 1e9; };
    std::printf("| %s | %.2f [%.2f..%.2f] | %.2f | %.4f |\n", one.name.c_str(), rate(middle),
                rate(one.rounds.back()), rate(one.rounds.front()),
                middle.cpu_seconds / middle.seconds, middle.seconds);
  }
}

/// As a model that is used where it lies: all chunks kept, and mapped as one file.
timing load_whole(const std::shared_ptr<chunk_pool>& pool,
                  const std::shared_ptr<disk_reader>& reader, const ledger& records,
                  const fs::path& path, load_counts* counts = nullptr) {
  drop_cache(path);
  const auto file = need(disk_file::open(path));
  const auto sums = need(records.open({file}));
  auto view = need(chunk_view::make(pool, file->size_bytes()));
  load_pipeline pipeline{pool};
  load_plan plan{{{make_disk_origin(*reader, file), sums.front()}}, {{0, 0, file->size_bytes()}}};
  latch all{1};
  load_events events;
  events.chunk = [&](loaded_chunk x) { return view->place(x.offset, std::move(x.bytes)); };
  events.done = [&](const caf::error& why) { all.end(why); };
  std::shared_ptr<load> work;
  const auto out = timed([&] {
    work = pipeline.start(plan, load_priority::demand, events);
    all.wait();
  });
  if (counts != nullptr)
    *counts = work->counts();
  return out;
}

/// Forgets the chunks from `from` on, keeps their memory.
void flush(chunk_pool& pool, const checksum& key, uint64_t from, uint64_t bytes) {
  for (uint64_t at = from; at < bytes; at += chunk_bytes)
    if (auto lease = pool.find({key, at}, clock_type::now()))
      pool.discard(*lease);
}

std::shared_ptr<chunk_pool> open_pool(const fs::path& path, uint64_t bytes) {
  chunk_pool_options options{.path = path};
  options.size_bytes = (bytes / chunk_bytes + 8) * chunk_bytes;
  options.chunk_bytes = chunk_bytes;
  return need(chunk_pool::open(options));
}

void load_once(const fs::path& path, const fs::path& pool_path, double share) {
  const std::shared_ptr<disk_reader> reader = need(make_disk_reader());
  const auto file = need(disk_file::open(path));
  const auto bytes = file->size_bytes();
  const auto pool = open_pool(pool_path, bytes);
  const auto chunks = (bytes + chunk_bytes - 1) / chunk_bytes;
  const auto held = static_cast<uint64_t>(share * static_cast<double>(chunks) + 0.5);
  flush(*pool, make_disk_origin(*reader, file)->key(), held * chunk_bytes, bytes);
  const ledger sums{pool_path.string() + ".sums", chunk_bytes};
  load_counts counts;
  const auto took = load_whole(pool, reader, sums, path, &counts);
  std::printf("{\"seconds\": %.6f, \"cpu_seconds\": %.6f, \"bytes\": %ju, "
              "\"disk_bytes\": %ju, \"pool_bytes\": %ju}\n",
              took.seconds, took.cpu_seconds, static_cast<uintmax_t>(bytes),
              static_cast<uintmax_t>(counts.disk_bytes), static_cast<uintmax_t>(counts.pool_bytes));
}

class bench {
public:
  bench(fs::path file, fs::path pool_path)
      : path_{std::move(file)}, pool_path_{std::move(pool_path)} {
    bytes_ = fs::file_size(path_);
    reader_ = need(make_disk_reader());
  }

  void round() {
    fs::remove(pool_path_);
    record("plain O_DIRECT reads, one thread, 16 MiB", [&] { read_plainly(path_); });
    auto pool = open();
    record("disk -> pool, first use of its memory, sums recorded", [&] { load(pool); });
    forget(*pool);
    record("disk -> pool, memory in place, sums verified", [&] { load(pool); });
    record("pool -> ready, sums verified", [&] { load(pool); });
    pool.reset();
    record(
        "pool re-attached", [&] { pool = open(); }, 0);
    record("re-attached pool -> ready, sums verified", [&] { load(pool); });
    checksums(*pool);
    record("plain O_DIRECT reads, again", [&] { read_plainly(path_); });
  }

  void finish() {
    fs::remove(pool_path_);
    print(rows_);
  }

private:
  std::shared_ptr<chunk_pool> open() { return open_pool(pool_path_, bytes_); }
  void load(const std::shared_ptr<chunk_pool>& pool) { load_whole(pool, reader_, sums_, path_); }
  void forget(chunk_pool& pool) {
    const auto file = need(disk_file::open(path_));
    flush(pool, make_disk_origin(*reader_, file)->key(), 0, bytes_);
  }

  void checksums(chunk_pool& pool) {
    const auto file = need(disk_file::open(path_));
    const auto key = make_disk_origin(*reader_, file)->key();
    record("checksum alone, one thread", [&] {
      for (uint64_t at = 0; at < bytes_; at += chunk_bytes)
        if (const auto lease = pool.find({key, at}, clock_type::now()))
          if (checksum_of(lease->bytes()) != lease->sum())
            give_up("a chunk has the wrong checksum");
    });
    std::vector<std::byte> into(chunk_bytes);
    record("memcpy, one thread", [&] {
      for (uint64_t at = 0; at < bytes_; at += chunk_bytes)
        if (const auto lease = pool.find({key, at}, clock_type::now()))
          std::memcpy(into.data(), lease->bytes().data(), lease->bytes().size());
    });
  }

  void record(const std::string& name, const std::function<void()>& work) {
    record(name, work, static_cast<double>(bytes_));
  }
  void record(const std::string& name, const std::function<void()>& work, double bytes) {
    auto found = std::find_if(rows_.begin(), rows_.end(), [&](auto& x) { return x.name == name; });
    if (found == rows_.end())
      found = rows_.insert(rows_.end(), row{name, {}, bytes});
    found->rounds.push_back(timed(work));
  }

  fs::path path_, pool_path_;
  uint64_t bytes_ = 0;
  std::shared_ptr<disk_reader> reader_;
  ledger sums_{pool_path_.string() + ".sums", chunk_bytes};
  std::vector<row> rows_;
};

uint64_t resident_bytes() {
  std::ifstream status{"/proc/self/statm"};
  uint64_t total = 0, resident = 0;
  status >> total >> resident;
  return resident * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

/// The file goes through a pool of a quarter of its size, to a caller that keeps nothing.
void stream_through_small_pool(const fs::path& path) {
  const auto file = need(disk_file::open(path));
  const auto bytes = file->size_bytes();
  drop_cache(path);
  const auto before = resident_bytes();
  chunk_pool_options options;
  options.size_bytes = bytes / 4;
  options.chunk_bytes = chunk_bytes;
  const auto pool = need(chunk_pool::open(options));
  const auto sums = need(ledger{{}, chunk_bytes}.open({file}));
  const std::shared_ptr<disk_reader> reader = need(make_disk_reader());
  uint64_t most = 0;
  const auto time = timed([&] {
    load_pipeline pipeline{pool};
    load_plan plan{{{make_disk_origin(*reader, file), sums.front()}}, {{0, 0, bytes}}};
    latch all{1};
    load_events events;
    events.progress = [&](size_t, uint64_t) { most = std::max(most, resident_bytes()); };
    events.done = [&](const caf::error& why) { all.end(why); };
    pipeline.start(plan, load_priority::demand, events);
    all.wait();
  });
  std::printf("through a pool of a quarter of its size: %.2f GB/s, resident at most the pool (%.0f "
              "MiB) and %.1f MiB\n",
              static_cast<double>(bytes) / time.seconds / 1e9,
              static_cast<double>(options.size_bytes) / 1048576.0,
              (static_cast<double>(most - before) - static_cast<double>(options.size_bytes)) /
                  1048576.0);
}

/// A pool of 256 GiB whose every chunk holds something, the something being small.
void attach_large(const fs::path& pool_path) {
  chunk_pool_options options{.path = pool_path, .size_bytes = uint64_t{256} << 30};
  options.chunk_bytes = chunk_bytes;
  {
    const auto pool = need(chunk_pool::open(options));
    for (uint64_t i = 0; i < pool->chunk_count(); ++i) {
      auto fill = pool->begin(sizeof i, clock_type::now());
      if (!fill)
        give_up("no memory for the large pool");
      std::memcpy(fill->room().data(), &i, sizeof i);
      const auto sum = checksum_of(fill->room());
      pool->publish(std::move(*fill), {{1, 2}, i * chunk_bytes}, sum, 1, clock_type::now());
    }
  }
  const auto time = timed([&] { need(chunk_pool::open(options)); });
  std::printf("re-attaching a pool of 256 GiB, %u chunks: %.1f ms\n", 65536u, time.seconds * 1e3);
  fs::remove(pool_path);
}

} // namespace

int main(int argc, char** argv) {
  if (argc < 2)
    give_up("usage: load_bench DIRECTORY [GIGABYTES] [ROUNDS] [--sweep]");
  if (argc == 5 && std::string{argv[1]} == "--load") {
    load_once(argv[2], argv[3], std::strtod(argv[4], nullptr));
    return 0;
  }
  const fs::path directory = argv[1];
  const auto gigabytes = argc > 2 ? std::strtod(argv[2], nullptr) : 1.0;
  const auto rounds = argc > 3 ? std::max(std::atoi(argv[3]), 1) : 5;
  const auto file = directory / "load_bench.bin";
  // Not a multiple of anything.
  make_file(file, static_cast<uint64_t>(gigabytes * 1e9) / 4096 * 4096 + 1234);
  if (argc > 4 && std::string{argv[4]} == "--sweep") {
    sweep(file, rounds);
    return 0;
  }
  const auto pool_path = fs::path{"/dev/shm"} / ("load_bench." + std::to_string(::getpid()));
  bench all{file, pool_path};
  for (int i = 0; i < rounds; ++i)
    all.round();
  all.finish();
  stream_through_small_pool(file);
  attach_large(pool_path);
  fs::remove_all(pool_path.string() + ".sums");
  return 0;
}
