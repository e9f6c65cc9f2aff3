#include <atomic>
#include <future>
#include <thread>

#include "storage/pool/chunk_view.hpp"
#include "tests/storage/pool/fake_pinner.hpp"
#include "tests/storage/pool/pool_fixture.hpp"

namespace troupe::storage {
namespace {

using test::at_second;
using test::content_of;
using test::fake_pinner;
using test::holds;
using test::key_of;
using test::open_pool;
using test::put;
using test::small_chunk;

const auto nothing_fails = [](const caf::error& why) { ADD_FAILURE() << describe(why); };

/// What a device finds where a chunk lies.
bool device_finds(fake_pinner& pinner, const chunk_lease& lease, const chunk_key& key) {
  const auto bytes = lease.bytes();
  const auto read = pinner.begin_read(bytes.data(), bytes.size());
  pinner.end_read(bytes.data());
  return read == content_of(key, bytes.size());
}

TEST(pool_pinned_test, what_is_worth_most_is_pinned_first_and_then_what_is_ready) {
  const auto pinner = std::make_shared<fake_pinner>();
  const auto pool = open_pool({}, 6,
                              {.worth = [](const chunk_use& x) { return x.reload_seconds; },
                               .ready_bytes = 2 * small_chunk});
  std::vector<const std::byte*> expected;
  for (const double worth : {0.3, 0.9, 0.6})
    put(*pool, key_of(static_cast<uint64_t>(worth * 10), 0), at_second(1), worth);
  for (const uint64_t file : {9, 6, 3})
    expected.push_back(pool->find(key_of(file, 0), at_second(1))->bytes().data());
  while (pool->usage().ready_bytes < 2 * small_chunk)
    std::this_thread::yield();
  pool->pin(pinner, UINT64_MAX, nothing_fails);
  pinner->wait_for(5);
  auto order = pinner->order();
  order.resize(3);
  EXPECT_EQ(order, expected);
  while (pool->usage().pinned_bytes < 5 * small_chunk)
    std::this_thread::yield();
  const auto next = put(*pool, key_of(1, 1));
  EXPECT_TRUE(next.is_pinned()) << "it came into room that was ready";
  EXPECT_TRUE(device_finds(*pinner, next, key_of(1, 1)));
}

TEST(pool_pinned_test, a_slot_stays_pinned_whatever_comes_into_it) {
  const auto pinner = std::make_shared<fake_pinner>();
  const auto pool = open_pool({}, 4);
  for (uint64_t i = 0; i < 4; ++i)
    put(*pool, key_of(1, i));
  pool->pin(pinner, UINT64_MAX, nothing_fails);
  while (pool->usage().pinned_bytes < 4 * small_chunk)
    std::this_thread::yield();
  for (uint64_t i = 0; i < 100; ++i) {
    // Every third is shorter than a chunk; some are thrown away.
    const auto length = i % 3 == 0 ? 5000 : small_chunk;
    const auto lease = put(*pool, key_of(2, i), at_second(2), 1, length);
    ASSERT_TRUE(lease && lease.is_pinned());
    EXPECT_TRUE(device_finds(*pinner, lease, key_of(2, i)));
    if (i % 5 == 0)
      pool->discard(lease);
  }
  EXPECT_EQ(pinner->order().size(), 4u);
}

TEST(pool_pinned_test, no_more_is_pinned_than_was_allowed_and_only_what_exists) {
  const auto pinner = std::make_shared<fake_pinner>();
  const auto pool =
      open_pool({}, 8, {.worth = [](const chunk_use& x) { return x.reload_seconds; }});
  const auto short_one = put(*pool, key_of(1, 0), at_second(1), 9, 4096); // worth most
  std::vector<chunk_lease> all;
  for (uint64_t i = 1; i < 6; ++i)
    all.push_back(put(*pool, key_of(1, i)));
  pool->pin(pinner, 3 * small_chunk + 1, nothing_fails);
  while (pool->usage().pinned_bytes < 3 * small_chunk)
    std::this_thread::yield();
  put(*pool, key_of(1, 7)); // wakes the thread
  EXPECT_EQ(pool->usage().pinned_bytes, 3 * small_chunk);
  EXPECT_FALSE(short_one.is_pinned()) << "a part of it does not exist";
  EXPECT_EQ(std::ranges::count_if(all, [](const auto& one) { return one.is_pinned(); }), 3);
}

TEST(pool_pinned_test, nothing_is_pinned_while_something_is_loaded) {
  const auto pinner = std::make_shared<fake_pinner>();
  const auto pool = open_pool({}, 8);
  std::atomic<bool> loading{true};
  pinner->before_pin([&] { EXPECT_FALSE(loading); });
  put(*pool, key_of(1, 0));
  pool->begin_load();
  pool->begin_load();
  pool->pin(pinner, UINT64_MAX, nothing_fails);
  pool->end_load();
  for (uint64_t i = 0; i < 500; ++i) // which takes longer than a thread takes to begin
    put(*pool, key_of(2, i), at_second(2));
  auto fill = pool->begin(small_chunk, at_second(3));
  pool->end_load();
  for (uint64_t i = 0; i < 500; ++i)
    put(*pool, key_of(3, i), at_second(3));
  loading = false; // when this chunk is no longer on its way, either
  fill->drop();
  pinner->wait_for(8);
}

TEST(pool_pinned_test, a_machine_that_pins_no_more_is_told_of_once_and_loses_nothing) {
  const auto pinner = std::make_shared<fake_pinner>();
  pinner->refuse_from(2);
  std::promise<caf::error> told;
  const auto pool = open_pool({}, 4);
  for (uint64_t i = 0; i < 4; ++i)
    put(*pool, key_of(1, i));
  pool->pin(pinner, UINT64_MAX, [&](const caf::error& why) { told.set_value(why); });
  EXPECT_EQ(told.get_future().get(), errc::no_memory);
  EXPECT_EQ(pool->usage().pinned_bytes, 2 * small_chunk);
  for (uint64_t i = 0; i < 20; ++i) {
    const auto lease = put(*pool, key_of(2, i), at_second(2));
    EXPECT_TRUE(holds(lease, key_of(2, i)));
    EXPECT_TRUE(!lease.is_pinned() || device_finds(*pinner, lease, key_of(2, i)));
  }
}

TEST(pool_pinned_test, a_successor_pins_what_it_finds_and_room_that_was_ready_goes_back) {
  const test::temporary_directory root;
  const auto path = root.path() / "pool";
  for (int start = 0; start < 3; ++start) {
    const auto pinner = std::make_shared<fake_pinner>();
    const auto pool = open_pool(path, 6, {.ready_bytes = 2 * small_chunk});
    EXPECT_EQ(pool->usage().pinned_bytes, 0u);
    for (uint64_t i = 0; i < 4 && start == 0; ++i)
      put(*pool, key_of(1, i));
    pool->pin(pinner, UINT64_MAX, nothing_fails);
    pinner->wait_for(6);
    while (pool->usage().pinned_bytes < 6 * small_chunk)
      std::this_thread::yield();
    for (uint64_t i = 0; i < 4; ++i) {
      const auto found = pool->find(key_of(1, i), at_second(2));
      ASSERT_TRUE(found && found->is_pinned());
      EXPECT_TRUE(device_finds(*pinner, *found, key_of(1, i)));
    }
  }
}

TEST(pool_pinned_test, pinning_that_takes_long_holds_nobody_up) {
  const auto pinner = std::make_shared<fake_pinner>();
  std::promise<void> begun, go_on;
  std::atomic<bool> first{true};
  pinner->before_pin([&] {
    if (first.exchange(false)) {
      begun.set_value();
      go_on.get_future().wait();
    }
  });
  const auto pool = open_pool({}, 2);
  put(*pool, key_of(1, 0));
  pool->pin(pinner, UINT64_MAX, nothing_fails);
  begun.get_future().wait();
  // The slot that is being pinned is used for something else meanwhile.
  for (uint64_t i = 1; i < 9; ++i) {
    const auto lease = put(*pool, key_of(1, i), at_second(static_cast<int64_t>(i) + 1));
    EXPECT_TRUE(holds(lease, key_of(1, i)));
    EXPECT_FALSE(lease.is_pinned());
  }
  go_on.set_value();
  pinner->wait_for(2);
  while (pool->usage().pinned_bytes < 2 * small_chunk)
    std::this_thread::yield();
  for (uint64_t i = 7; i < 9; ++i) {
    const auto found = pool->find(key_of(1, i), at_second(10));
    ASSERT_TRUE(found);
    EXPECT_TRUE(device_finds(*pinner, *found, key_of(1, i)));
  }
}

TEST(pool_pinned_test, a_view_tells_where_a_device_reads_and_ends_runs_where_pinning_changes) {
  const auto pinner = std::make_shared<fake_pinner>();
  // Two of four chunks, the second and the third, are pinned.
  const auto pool =
      open_pool({}, 6, {.worth = [](const chunk_use& x) { return x.reload_seconds; }});
  for (const uint64_t i : {3, 2, 1, 0}) // so that no two lie in the order of the file
    put(*pool, key_of(1, i), at_second(1), i == 1 || i == 2 ? 2 : 1);
  pool->pin(pinner, 2 * small_chunk, nothing_fails);
  while (pool->usage().pinned_bytes < 2 * small_chunk)
    std::this_thread::yield();
  const auto view = chunk_view::make(pool, 3 * small_chunk + 100);
  ASSERT_TRUE(view);
  for (uint64_t i = 0; i < 3; ++i)
    ASSERT_FALSE((*view)->place(i * small_chunk, *pool->find(key_of(1, i), at_second(1))));
  ASSERT_FALSE((*view)->place(3 * small_chunk, put(*pool, key_of(2, 3), at_second(1), 1, 100)));
  const auto runs = [&](uint64_t from, uint64_t size) {
    std::vector<std::pair<bool, uint64_t>> out;
    for (uint64_t done = 0; done < size;) {
      const auto run = (*view)->pinned(from + done, size - done);
      out.emplace_back(run.pinned != nullptr, run.size_bytes);
      if (run.pinned != nullptr) {
        const auto read = pinner->begin_read(run.pinned, run.size_bytes);
        pinner->end_read(run.pinned);
        const auto mapped = (*view)->bytes().subspan(from + done, run.size_bytes);
        EXPECT_TRUE(std::equal(read.begin(), read.end(), mapped.begin(), mapped.end()));
      }
      done += run.size_bytes;
    }
    return out;
  };
  using list = std::vector<std::pair<bool, uint64_t>>;
  EXPECT_EQ(runs(0, 3 * small_chunk + 100),
            (list{{false, small_chunk}, {true, small_chunk}, {true, small_chunk}, {false, 100}}));
  EXPECT_EQ(runs(small_chunk - 1, 3), (list{{false, 1}, {true, 2}}));
  EXPECT_EQ(runs(2 * small_chunk - 5, 10), (list{{true, 5}, {true, 5}}));
  EXPECT_EQ(runs(small_chunk + 7, 11), (list{{true, 11}}));
  EXPECT_EQ(runs(3 * small_chunk, 100), (list{{false, 100}}));
}

/// Loads come and go, chunks are evicted, shared and thrown away, memory is pinned meanwhile; what
/// devices read at any moment is what was put there.
TEST(pool_pinned_test, a_storm_of_loads_never_shows_a_device_anything_but_the_chunk) {
  for (const uint64_t seed : {1, 2, 3}) {
    SCOPED_TRACE(seed);
    const auto pinner = std::make_shared<fake_pinner>();
    const auto pool = open_pool({}, 24, {.ready_bytes = 4 * small_chunk});
    pool->pin(pinner, 20 * small_chunk, nothing_fails);
    std::atomic<uint64_t> direct{0};
    const auto load = [&](uint64_t worker) {
      std::mt19937_64 random{seed * 100 + worker};
      for (int64_t i = 0; i < 1500; ++i) {
        const bool whole = random() % 4 == 0; // others do not hold up pinning
        if (whole)
          pool->begin_load();
        // Both the content and the length follow from the key.
        const auto key = key_of(random() % 4, random() % 12);
        const size_t length = key.offset % 5 == 0 ? 4000 : small_chunk;
        auto found = pool->find(key, at_second(i));
        auto lease = found ? std::move(*found) : put(*pool, key, at_second(i), 1, length);
        if (lease && lease.is_pinned()) {
          const auto bytes = lease.bytes();
          const auto read = pinner->begin_read(bytes.data(), bytes.size());
          ASSERT_EQ(read, content_of(key, length));
          pinner->end_read(bytes.data());
          ++direct;
        }
        if (lease && random() % 16 == 0)
          pool->discard(lease);
        if (whole)
          pool->end_load();
      }
    };
    {
      std::vector<std::jthread> workers;
      for (uint64_t i = 0; i < 4; ++i)
        workers.emplace_back(load, i);
    }
    while (pool->usage().pinned_bytes < 20 * small_chunk)
      std::this_thread::yield();
    load(9);
    EXPECT_GT(direct, 500u);
  }
}

} // namespace
} // namespace troupe::storage
