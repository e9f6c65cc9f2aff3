#include "storage/pipeline/tier_probe.hpp"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <thread>

#include "storage/integrity/checksum.hpp"

namespace troupe::storage {

namespace {

constexpr uint64_t probe_bytes = 32u << 20, piece_bytes = 4u << 20, page_bytes = 4096;
/// Threads that verify chunks, see load_pipeline_options.
constexpr unsigned verifiers = 2;

using steady = std::chrono::steady_clock;

double rate_since(steady::time_point began, uint64_t bytes) {
  const auto seconds = std::chrono::duration<double>(steady::now() - began).count();
  return seconds > 0 ? static_cast<double>(bytes) / seconds : 0;
}

struct page_memory {
  void operator()(std::byte* bytes) const { std::free(bytes); }
};

/// Whether all of it came.
bool read_pieces(disk_reader& reader, const std::shared_ptr<const disk_file>& file, uint64_t offset,
                 std::span<std::byte> into) {
  std::mutex mutex;
  std::condition_variable changed;
  size_t left = into.size() / piece_bytes;
  bool good = true;
  for (uint64_t at = 0; at < into.size(); at += piece_bytes)
    reader.read(file, offset + at, into.subspan(at, piece_bytes), [&](const caf::error& why) {
      const std::lock_guard guard{mutex};
      good = good && !why;
      if (--left == 0)
        changed.notify_one(); // with the mutex held: `changed` may go as soon as it is free
    });
  std::unique_lock guard{mutex};
  changed.wait(guard, [&] { return left == 0; });
  return good;
}

} // namespace

probed_rates probe_tiers(disk_reader& reader, const std::filesystem::path& path) {
  probed_rates out;
  const std::unique_ptr<std::byte, page_memory> memory{
      static_cast<std::byte*>(std::aligned_alloc(page_bytes, probe_bytes))};
  if (!memory)
    return out;
  std::fill_n(memory.get(), probe_bytes, std::byte{1}); // its pages are made here, not below
  const auto file = disk_file::open(path);
  if (file && (*file)->size_bytes() >= 2 * piece_bytes) {
    const auto bytes = std::min(probe_bytes, (*file)->size_bytes()) / piece_bytes * piece_bytes;
    // From the middle: the beginning is what others look at.
    const auto offset = ((*file)->size_bytes() - bytes) / 2 / page_bytes * page_bytes;
    bool cached = false;
    for (uint64_t at = 0; at < bytes; at += piece_bytes)
      cached = cached || (*file)->is_cached(offset + at, piece_bytes);
    const auto began = steady::now();
    if (!cached && read_pieces(reader, *file, offset, {memory.get(), bytes}))
      out.disk = rate_since(began, bytes);
  }
  const auto began = steady::now();
  (void)checksum_of({memory.get(), probe_bytes});
  out.memory = rate_since(began, probe_bytes) *
               std::clamp(std::thread::hardware_concurrency(), 1u, verifiers);
  return out;
}

} // namespace troupe::storage
