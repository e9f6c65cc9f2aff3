#include "gpu/cpu/kept_pages.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <vector>

#include <gtest/gtest.h>

#include "gpu/device.hpp"

namespace troupe::gpu::cpu {
namespace {

using namespace std::chrono_literals;

constexpr size_t mib = size_t{1} << 20;

/// Bytes of a block that have pages.
size_t resident_bytes(void* data, size_t size_bytes) {
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  std::vector<unsigned char> pages(size_bytes / page);
  EXPECT_EQ(::mincore(data, size_bytes, pages.data()), 0);
  size_t out = 0;
  for (const auto x : pages)
    out += (x & 1) * page;
  return out;
}

/// A block of that many bytes whose every byte was written.
void* filled(kept_pages& pages, size_t size_bytes, int value) {
  auto* data = pages.map(size_bytes);
  EXPECT_NE(data, nullptr);
  pages.fill(data, size_bytes);
  std::memset(data, value, size_bytes);
  return data;
}

bool holds(const void* data, size_t size_bytes, int value) {
  const auto* bytes = static_cast<const unsigned char*>(data);
  return bytes[0] == value && std::memcmp(bytes, bytes + 1, size_bytes - 1) == 0;
}

TEST(kept_pages, pages_of_released_weights_become_those_of_the_next_ones) {
  kept_pages pages;
  auto* a = filled(pages, 20 * mib, 1);
  auto* b = filled(pages, 9 * mib, 2);
  EXPECT_EQ(pages.kept_bytes(), 0u);
  pages.unmap(a, 20 * mib);
  pages.unmap(b, 9 * mib);
  EXPECT_EQ(pages.kept_bytes(), 30 * mib);
  auto* c = pages.map(26 * mib);
  EXPECT_EQ(resident_bytes(c, 26 * mib), 0u);
  // In steps, whose ends share a page of 2 MiB that is not replaced under what was written.
  std::byte* at = static_cast<std::byte*>(c);
  for (const size_t step : {5 * mib, 11 * mib, 10 * mib}) {
    pages.fill(at, step);
    std::memset(at, 3, step);
    at += step;
  }
  EXPECT_TRUE(holds(c, 26 * mib, 3));
  EXPECT_EQ(pages.kept_bytes(), 6 * mib);
  auto* d = pages.map(8 * mib);
  pages.fill(d, 8 * mib);
  EXPECT_EQ(resident_bytes(d, 8 * mib), 6 * mib) << "before anybody wrote there";
  EXPECT_EQ(pages.kept_bytes(), 0u);
  std::memset(d, 4, 8 * mib);
  EXPECT_TRUE(holds(c, 26 * mib, 3));
  // What was put together from several is taken apart again.
  pages.unmap(c, 26 * mib);
  pages.unmap(d, 8 * mib);
  auto* e = filled(pages, 34 * mib, 5);
  EXPECT_EQ(pages.kept_bytes(), 0u);
  EXPECT_TRUE(holds(e, 34 * mib, 5));
  pages.unmap(e, 34 * mib);
}

TEST(kept_pages, a_block_that_was_not_filled_gives_and_gets_none) {
  kept_pages pages;
  pages.unmap(filled(pages, 8 * mib, 1), 8 * mib);
  EXPECT_EQ(pages.kept_bytes(), 8 * mib);
  auto* cache = pages.map(64 * mib);
  EXPECT_EQ(resident_bytes(cache, 64 * mib), 0u);
  std::memset(cache, 1, 100);
  pages.unmap(cache, 64 * mib);
  EXPECT_EQ(pages.kept_bytes(), 8 * mib);
}

TEST(kept_pages, what_nobody_wants_goes_back_to_the_machine) {
  kept_pages pages{10s};
  pages.unmap(filled(pages, 8 * mib, 1), 8 * mib);
  pages.expire(kept_pages::clock::now());
  EXPECT_EQ(pages.kept_bytes(), 8 * mib);
  pages.expire(kept_pages::clock::now() + 10s);
  EXPECT_EQ(pages.kept_bytes(), 0u);
}

TEST(kept_pages, memory_that_is_no_block_is_left_alone) {
  kept_pages pages;
  pages.unmap(filled(pages, 8 * mib, 1), 8 * mib);
  std::vector<unsigned char> heap(16 * mib, 7);
  pages.fill(heap.data(), heap.size());
  EXPECT_TRUE(holds(heap.data(), heap.size(), 7));
  EXPECT_EQ(pages.kept_bytes(), 8 * mib);
}

TEST(kept_pages, a_device_hands_out_large_buffers_and_takes_them_back) {
  const auto device = make_cpu_device();
  for (const size_t size : {8 * mib - 1, 8 * mib, 8 * mib + 1, 33 * mib + 77}) {
    auto buffer = device->allocate(size);
    ASSERT_TRUE(buffer);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % 64, 0u);
    std::memset(buffer->data(), 9, size);
    EXPECT_TRUE(holds(buffer->data(), size, 9));
  }
}

} // namespace
} // namespace troupe::gpu::cpu
