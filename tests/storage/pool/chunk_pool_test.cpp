#include "storage/pool/chunk_pool.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "storage/pool/chunk_view.hpp"
#include "tests/storage/pool/pool_fixture.hpp"

namespace troupe::storage {
namespace {

using test::at_second;
using test::content_of;
using test::holds;
using test::key_of;
using test::open_pool;
using test::put;
using test::small_chunk;

TEST(chunk_pool_test, a_published_chunk_is_found_by_its_key_and_by_its_content) {
  const auto pool = open_pool({}, 4);
  const auto key = key_of(1, 2);
  EXPECT_FALSE(pool->find(key, at_second(1)));
  ASSERT_TRUE(put(*pool, key, at_second(1), 1, 5000));
  const auto found = pool->find(key, at_second(2));
  ASSERT_TRUE(found);
  EXPECT_TRUE(holds(*found, key, 5000));
  EXPECT_EQ(found->sum(), checksum_of(content_of(key, 5000)));
  EXPECT_FALSE(pool->find(key_of(1, 1), at_second(2)));
  EXPECT_FALSE(pool->find(key_of(2, 2), at_second(2)));
  EXPECT_FALSE(pool->find_content(found->sum(), 4999, key_of(3, 0), at_second(2)));
  const auto same = pool->find_content(found->sum(), 5000, key_of(3, 0), at_second(2));
  ASSERT_TRUE(same);
  EXPECT_EQ(same->bytes().data(), found->bytes().data());
  EXPECT_TRUE(pool->find(key_of(3, 0), at_second(2)));
}

TEST(chunk_pool_test, equal_chunks_of_different_files_are_held_once) {
  const auto pool = open_pool({}, 4);
  const auto content = content_of(key_of(1, 0));
  const auto publish = [&](const chunk_key& key) {
    auto fill = pool->begin(small_chunk, at_second(1));
    std::memcpy(fill->room().data(), content.data(), small_chunk);
    return pool->publish(std::move(*fill), key, checksum_of(content), 1, at_second(1));
  };
  auto first = publish(key_of(1, 0));
  auto second = publish(key_of(2, 7));
  EXPECT_EQ(first.bytes().data(), second.bytes().data());
  EXPECT_EQ(pool->usage().held_bytes, small_chunk);
  EXPECT_EQ(pool->usage().shared_bytes, small_chunk);
  pool->discard(first);
  EXPECT_FALSE(pool->find(key_of(1, 0), at_second(2)));
  EXPECT_FALSE(pool->find(key_of(2, 7), at_second(2)));
}

TEST(chunk_pool_test, a_checksum_that_two_contents_claim_shares_nothing) {
  const auto pool = open_pool({}, 4);
  const auto first = put(*pool, key_of(1, 0));
  auto fill = pool->begin(small_chunk, at_second(1));
  const auto other = content_of(key_of(9, 9));
  std::memcpy(fill->room().data(), other.data(), small_chunk);
  const auto second = pool->publish(std::move(*fill), key_of(2, 0), first.sum(), 1, at_second(1));
  EXPECT_NE(first.bytes().data(), second.bytes().data());
  EXPECT_TRUE(holds(first, key_of(1, 0))) << "a lease keeps its bytes whatever happens";
  EXPECT_TRUE(holds(second, key_of(9, 9)));
}

TEST(chunk_pool_test, eviction_never_takes_what_is_leased_or_being_filled) {
  const auto pool = open_pool({}, 4);
  int told = 0;
  pool->on_room([&] { ++told; });
  const auto a = put(*pool, key_of(1, 0));
  auto b = put(*pool, key_of(1, 1));
  auto c = pool->begin(small_chunk, at_second(1));
  const auto d = put(*pool, key_of(1, 3));
  ASSERT_TRUE(a && b && c && d);
  EXPECT_FALSE(pool->begin(small_chunk, at_second(9)));
  EXPECT_EQ(told, 0);
  b.release();
  EXPECT_EQ(told, 1);
  auto e = pool->begin(small_chunk, at_second(9));
  ASSERT_TRUE(e);
  EXPECT_FALSE(pool->find(key_of(1, 1), at_second(9)));
  EXPECT_FALSE(pool->begin(small_chunk, at_second(9)));
  c->drop();
  EXPECT_EQ(told, 2);
  EXPECT_TRUE(pool->begin(small_chunk, at_second(9)));
  EXPECT_TRUE(holds(a, key_of(1, 0)));
  EXPECT_TRUE(holds(d, key_of(1, 3)));
  EXPECT_EQ(pool->usage().evictions, 1u);
}

TEST(chunk_pool_test, a_directory_that_is_not_there_is_named) {
  EXPECT_TRUE(capacity_of("/dev/shm"));
  const auto none = capacity_of("/no/such/place");
  ASSERT_FALSE(none);
  EXPECT_EQ(describe(none.error()),
            "host pool /no/such/place: cannot lie there: No such file or directory");
}

TEST(chunk_pool_test, what_is_being_filled_has_made_its_room_already) {
  const auto pool = open_pool({}, 4);
  std::vector<chunk_key> keys;
  for (uint32_t i = 0; i < 4; ++i) {
    keys.push_back(key_of(1, i));
    ASSERT_TRUE(put(*pool, keys.back(), at_second(1 + i)));
  }
  const auto held_after = [&](uint64_t coming) {
    return std::ranges::count(pool->would_hold(keys, coming, 1, at_second(9)), true);
  };
  EXPECT_EQ(held_after(2), 2);
  const auto first = pool->begin(small_chunk, at_second(9));
  ASSERT_TRUE(first);
  EXPECT_EQ(held_after(2), 2) << "one of the two has come half way";
  EXPECT_EQ(held_after(0), 3);
}

TEST(chunk_pool_test, by_default_the_least_recently_used_goes_and_of_one_load_its_end) {
  const auto pool = open_pool({}, 4);
  put(*pool, key_of(1, 0), at_second(1));
  put(*pool, key_of(1, 1), at_second(1));
  put(*pool, key_of(2, 0), at_second(2));
  put(*pool, key_of(2, 1), at_second(2));
  pool->find(key_of(1, 0), at_second(3));
  pool->find(key_of(1, 1), at_second(3));
  put(*pool, key_of(3, 0), at_second(4));
  EXPECT_FALSE(pool->find(key_of(2, 1), at_second(4)));
  EXPECT_TRUE(pool->find(key_of(2, 0), at_second(2)));
  put(*pool, key_of(3, 1), at_second(4));
  EXPECT_FALSE(pool->find(key_of(2, 0), at_second(4)));
  EXPECT_TRUE(pool->find(key_of(1, 1), at_second(3)));
}

TEST(chunk_pool_test, the_policy_that_was_handed_in_decides) {
  const auto pool =
      open_pool({}, 3, {.worth = [](const chunk_use& x) { return x.reload_seconds; }});
  put(*pool, key_of(1, 0), at_second(1), 0.9);
  put(*pool, key_of(2, 0), at_second(2), 0.1);
  put(*pool, key_of(3, 0), at_second(3), 0.5);
  put(*pool, key_of(4, 0), at_second(4), 0.7);
  EXPECT_FALSE(pool->find(key_of(2, 0), at_second(5)));
  EXPECT_TRUE(pool->find(key_of(1, 0), at_second(5)));
}

TEST(chunk_pool_test, heat_counts_loads_not_chunks_asked_for_twice) {
  double heat = 0, idle = 0;
  const auto pool = open_pool({}, 1, {.worth = [&](const chunk_use& x) {
                                heat = x.heat, idle = x.idle_seconds;
                                return 0.0;
                              }});
  put(*pool, key_of(1, 0), at_second(1));
  for (const int64_t second : {5, 5, 8})
    pool->find(key_of(1, 0), at_second(second));
  put(*pool, key_of(2, 0), at_second(10));
  EXPECT_EQ(heat, 3);
  EXPECT_EQ(idle, 2);
}

TEST(chunk_pool_test, a_successor_finds_everything_without_reading_anything) {
  const test::temporary_directory root;
  const auto path = root.path() / "pool";
  {
    const auto pool = open_pool(path, 8);
    for (uint64_t i = 0; i < 6; ++i)
      put(*pool, key_of(1, i), at_second(1), 1, i == 5 ? 100 : small_chunk);
    const auto unfinished = pool->begin(small_chunk, at_second(1));
    EXPECT_EQ(pool->usage().generation, 1u);
  }
  const auto pool = open_pool(path, 8);
  EXPECT_EQ(pool->usage().generation, 2u);
  EXPECT_EQ(pool->usage().reattached, 6u);
  EXPECT_EQ(pool->usage().held_bytes, 5 * small_chunk + 100);
  for (uint64_t i = 0; i < 6; ++i) {
    const auto found = pool->find(key_of(1, i), at_second(2));
    ASSERT_TRUE(found);
    EXPECT_TRUE(holds(*found, key_of(1, i), i == 5 ? 100 : small_chunk));
  }
  // The two slots that are left are as good as new.
  EXPECT_TRUE(put(*pool, key_of(2, 0)));
  EXPECT_TRUE(put(*pool, key_of(2, 1)));
  EXPECT_EQ(pool->usage().evictions, 0u);
}

TEST(chunk_pool_test, a_pool_of_another_size_begins_empty) {
  const test::temporary_directory root;
  put(*open_pool(root.path() / "pool", 8), key_of(1, 0));
  const auto pool = open_pool(root.path() / "pool", 9);
  EXPECT_EQ(pool->usage().generation, 1u);
  EXPECT_FALSE(pool->find(key_of(1, 0), at_second(2)));
  EXPECT_TRUE(put(*pool, key_of(1, 0)));
}

TEST(chunk_pool_test, one_process_has_it_and_files_of_others_are_not_touched) {
  const test::temporary_directory root;
  chunk_pool_options options{.path = root.path() / "pool", .size_bytes = 1 << 20};
  options.chunk_bytes = small_chunk;
  const auto pool = chunk_pool::open(options);
  ASSERT_TRUE(pool);
  EXPECT_TRUE(chunk_pool::open(options).error() == errc::in_use);
  test::write_file(root.path() / "readable", "mine");
  std::filesystem::permissions(root.path() / "readable", std::filesystem::perms(0644));
  options.path = root.path() / "readable";
  EXPECT_TRUE(chunk_pool::open(options).error() == errc::unreadable);
  EXPECT_EQ(std::filesystem::file_size(options.path), 4u);
  std::filesystem::create_symlink("pool", root.path() / "link");
  options.path = root.path() / "link";
  EXPECT_TRUE(chunk_pool::open(options).error() == errc::unreadable);
  options.size_bytes = small_chunk - 1;
  EXPECT_TRUE(chunk_pool::open(options).error() == errc::no_memory);
}

TEST(chunk_pool_test, damaged_metadata_loses_chunks_but_never_gives_wrong_ones) {
  const test::temporary_directory root;
  const auto path = root.path() / "pool";
  constexpr uint32_t chunks = 16;
  const auto metadata = pool_layout::header_bytes + chunks * sizeof(pool_layout::slot_record) +
                        4 * chunks * sizeof(pool_layout::entry_record);
  std::mt19937_64 random{7};
  size_t survived = 0;
  for (int round = 0; round < 1000; ++round) {
    {
      const auto pool = open_pool(path, chunks);
      for (uint64_t i = 0; i < chunks; ++i)
        if (!pool->find(key_of(1, i), at_second(round)))
          put(*pool, key_of(1, i), at_second(round));
    }
    const int fd = ::open(path.c_str(), O_RDWR);
    for (int i = 0; i < 4; ++i) {
      const auto at = static_cast<off_t>(random() % metadata);
      const auto garbage = static_cast<char>(random());
      ASSERT_EQ(::pwrite(fd, &garbage, 1, at), 1);
    }
    ::close(fd);
    const auto pool = open_pool(path, chunks);
    for (uint64_t i = 0; i < chunks; ++i)
      if (const auto found = pool->find(key_of(1, i), at_second(round))) {
        ASSERT_TRUE(holds(*found, key_of(1, i)));
        ++survived;
      }
  }
  EXPECT_GT(survived, 1000u * chunks / 2) << "one bad record should not cost the others";
}

TEST(chunk_pool_test, loads_that_hold_what_they_read_cannot_set_aside_everything) {
  const auto pool = open_pool({}, 20);
  EXPECT_TRUE(pool->reserve(10));
  EXPECT_FALSE(pool->reserve(7));
  EXPECT_TRUE(pool->reserve(6));
  pool->unreserve(16);
  EXPECT_FALSE(pool->reserve(17));
  EXPECT_TRUE(pool->reserve(16));
}

TEST(chunk_pool_test, a_view_shows_scattered_chunks_as_one_file_and_keeps_them) {
  const auto pool = open_pool({}, 4);
  put(*pool, key_of(9, 0), at_second(0)).release();
  auto last = put(*pool, key_of(1, 2), at_second(1), 1, 100);
  auto first = put(*pool, key_of(1, 0), at_second(1));
  auto middle = put(*pool, key_of(1, 1), at_second(1));
  auto view = chunk_view::make(pool, 2 * small_chunk + 100);
  ASSERT_TRUE(view);
  EXPECT_FALSE((*view)->place(2 * small_chunk, std::move(last)));
  EXPECT_FALSE((*view)->place(0, std::move(first)));
  EXPECT_FALSE((*view)->place(small_chunk, std::move(middle)));
  // One slot is free to be taken; the others stay.
  EXPECT_TRUE(put(*pool, key_of(5, 0), at_second(5)));
  EXPECT_TRUE(put(*pool, key_of(5, 1), at_second(5)));
  for (uint64_t i = 0; i < 3; ++i) {
    const auto length = i == 2 ? 100 : small_chunk;
    const auto content = content_of(key_of(1, i), length);
    EXPECT_EQ(std::memcmp((*view)->bytes().data() + i * small_chunk, content.data(), length), 0);
  }
  EXPECT_EQ(pool->usage().leased_bytes, 2 * small_chunk + 100);
  view->reset();
  EXPECT_EQ(pool->usage().leased_bytes, 0u);
}

/// True if `view` shows chunk `index` of a file at its place.
bool shows(const chunk_view& view, uint64_t file, uint64_t index) {
  const auto content = content_of(key_of(file, index), small_chunk);
  return std::memcmp(view.bytes().data() + index * small_chunk, content.data(), small_chunk) == 0;
}

TEST(chunk_pool_test, a_view_is_found_again_and_only_what_has_moved_is_mapped_anew) {
  const auto pool = open_pool({}, 4);
  const auto kept = std::make_shared<kept_mappings>(4);
  const chunk_view::shelf where{kept, key_of(1, 0).file};
  const std::byte* before = nullptr;
  {
    const auto view = chunk_view::make(pool, 2 * small_chunk, where);
    ASSERT_TRUE(view);
    before = (*view)->bytes().data();
    for (uint64_t i = 0; i < 2; ++i)
      ASSERT_FALSE((*view)->place(i * small_chunk, put(*pool, key_of(1, i), at_second(1))));
    (*view)->drop(0);
    EXPECT_EQ(pool->usage().leased_bytes, small_chunk);
    EXPECT_EQ(kept->mapped(), 0u) << "in use";
  }
  EXPECT_EQ(pool->usage().leased_bytes, 0u);
  EXPECT_EQ(kept->mapped(), 2u);
  // The second chunk goes, and comes back somewhere else.
  auto first = pool->find(key_of(1, 0), at_second(2));
  const auto slot = pool->find(key_of(1, 1), at_second(2))->slot();
  pool->discard(*pool->find(key_of(1, 1), at_second(2)));
  std::vector<chunk_lease> others;
  while (others.empty() || others.back().slot() != slot)
    others.push_back(put(*pool, key_of(7, others.size()), at_second(3)));
  others.erase(others.begin(), others.end() - 1);
  auto second = put(*pool, key_of(1, 1), at_second(4));
  ASSERT_TRUE(first && second);
  ASSERT_NE(second.slot(), slot);
  const auto view = chunk_view::make(pool, 2 * small_chunk, where);
  ASSERT_TRUE(view);
  EXPECT_EQ((*view)->bytes().data(), before);
  ASSERT_FALSE((*view)->place(0, std::move(*first)));
  ASSERT_FALSE((*view)->place(small_chunk, std::move(second)));
  EXPECT_TRUE(shows(**view, 1, 0) && shows(**view, 1, 1));
  // Whoever loads the same file meanwhile has addresses of its own.
  const auto other = chunk_view::make(pool, 2 * small_chunk, where);
  ASSERT_TRUE(other);
  EXPECT_NE((*other)->bytes().data(), before);
}

TEST(chunk_pool_test, of_kept_views_those_that_were_used_last_stay) {
  const auto pool = open_pool({}, 8);
  const auto kept = std::make_shared<kept_mappings>(3);
  const auto use = [&](uint64_t file, uint64_t chunks) {
    const auto view = chunk_view::make(pool, chunks * small_chunk, {kept, key_of(file, 0).file});
    for (uint64_t i = 0; i < chunks; ++i)
      ASSERT_FALSE((*view)->place(i * small_chunk, put(*pool, key_of(file, i), at_second(1))));
  };
  use(1, 1), use(2, 2);
  EXPECT_EQ(kept->mapped(), 3u);
  use(1, 1), use(3, 2);
  EXPECT_EQ(kept->mapped(), 3u);
  EXPECT_FALSE(kept->take(key_of(2, 0).file, 2 * small_chunk));
  EXPECT_FALSE(kept->take(key_of(1, 0).file, 2 * small_chunk)) << "another size";
  EXPECT_TRUE(kept->take(key_of(1, 0).file, small_chunk));
  use(4, 4);
  EXPECT_EQ(kept->mapped(), 2u) << "too large to be kept";
}

TEST(chunk_pool_test, many_threads_that_fill_evict_and_read_never_see_a_wrong_byte) {
  const auto pool = open_pool({}, 12);
  std::atomic<size_t> wrong{0}, found{0}, filled{0};
  std::vector<std::thread> threads;
  for (uint64_t seed = 0; seed < 4; ++seed)
    threads.emplace_back([&, seed] {
      std::mt19937_64 random{seed};
      for (int i = 0; i < 400; ++i) {
        const auto key = key_of(random() % 3, random() % 8);
        const auto now = at_second(i);
        if (const auto lease = pool->find(key, now)) {
          ++found;
          wrong += !holds(*lease, key);
          if (random() % 16 == 0)
            pool->discard(*lease);
        } else if (const auto lease = put(*pool, key, now)) {
          ++filled;
          wrong += !holds(lease, key);
        }
      }
    });
  for (auto& thread : threads)
    thread.join();
  EXPECT_EQ(wrong, 0u);
  EXPECT_GT(found, 0u);
  EXPECT_GT(filled, 0u);
  EXPECT_EQ(pool->usage().leased_bytes, 0u);
}

TEST(chunk_pool_test, room_is_made_ready_before_it_is_needed) {
  const test::temporary_directory root;
  chunk_pool_options options;
  options.ready_bytes = 3 * small_chunk;
  const auto wait_for = [](const chunk_pool& pool, uint64_t ready) {
    while (pool.usage().ready_bytes != ready)
      std::this_thread::yield();
  };
  {
    const auto pool = open_pool(root.path() / "pool", 8, options);
    wait_for(*pool, 3 * small_chunk);
    EXPECT_EQ(pool->usage().committed_bytes, 3 * small_chunk);
    // Filled room is made up for once nothing is being filled.
    std::vector<chunk_lease> held;
    for (uint64_t i = 0; i < 4; ++i)
      held.push_back(put(*pool, key_of(1, i)));
    wait_for(*pool, 3 * small_chunk);
    EXPECT_EQ(pool->usage().committed_bytes, 7 * small_chunk);
    // The last slot may be on its way to being ready.
    for (uint64_t i = 4; i < 8; ++i)
      for (held.emplace_back(); !held.back();)
        held.back() = put(*pool, key_of(1, i));
    for (uint64_t i = 0; i < 8; ++i)
      EXPECT_TRUE(holds(held[i], key_of(1, i)));
    EXPECT_EQ(pool->usage().ready_bytes, 0u);
    for (uint64_t i = 5; i < 8; ++i)
      pool->discard(held[i]);
  }
  // What holds nothing does not outlive its process.
  const auto pool = open_pool(root.path() / "pool", 8);
  EXPECT_EQ(pool->usage().reattached, 5u);
  EXPECT_EQ(pool->usage().ready_bytes, 0u);
  EXPECT_EQ(pool->usage().committed_bytes, 5 * small_chunk);
  EXPECT_TRUE(holds(put(*pool, key_of(2, 0)), key_of(2, 0)));
}

} // namespace
} // namespace troupe::storage
