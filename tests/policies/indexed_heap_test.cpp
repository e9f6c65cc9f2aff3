#include "policies/indexed_heap.hpp"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "policies/id_table.hpp"

namespace troupe::policies {
namespace {

TEST(indexed_heap, its_top_is_that_of_a_sorted_set_over_random_histories) {
  std::mt19937_64 random{7};
  constexpr uint32_t items = 300;
  for (int round = 0; round < 50; ++round) {
    indexed_heap heap;
    indexed_heap::places places(items, indexed_heap::absent);
    std::set<std::pair<double, uint32_t>> sorted;
    std::vector<double> keys(items);
    for (int step = 0; step < 3000; ++step) {
      const auto item = static_cast<uint32_t>(random() % items);
      const auto key = static_cast<double>(random() % 50); // many are equal
      const bool held = places[item] != indexed_heap::absent;
      if (held)
        sorted.erase({keys[item], item});
      if (held && random() % 3 == 0) {
        heap.erase(item, places);
        EXPECT_EQ(places[item], indexed_heap::absent);
      } else {
        held ? heap.update(key, item, places) : heap.push(key, item, places);
        sorted.insert({keys[item] = key, item});
      }
      ASSERT_EQ(heap.size(), sorted.size());
      ASSERT_EQ(heap.empty(), sorted.empty());
      if (sorted.empty())
        continue;
      ASSERT_EQ(heap.top(), sorted.begin()->second);
      ASSERT_EQ(heap.top_key(), sorted.begin()->first);
    }
  }
}

// Hashes that share their low bits, or all 32 that are kept, must not be taken for one another.
TEST(id_table, finds_what_is_in_it_however_hashes_collide) {
  for (const uint64_t bits :
       {uint64_t{0x7}, uint64_t{0xffff}, uint64_t{0x1'0000'0003}, ~uint64_t{0}}) {
    std::mt19937_64 random{3};
    std::vector<uint64_t> ids(500);
    std::vector<bool> held(ids.size());
    for (auto& id : ids)
      id = random();
    const auto hash = [&](uint32_t slot) { return mix_bits(ids[slot]) & bits; };
    id_table table;
    size_t size = 0;
    for (int step = 0; step < 20'000; ++step) {
      const auto slot = static_cast<uint32_t>(random() % ids.size());
      if (held[slot])
        table.erase(hash(slot), slot);
      else
        table.insert(hash(slot), slot);
      held[slot] = !held[slot];
      size += held[slot] ? 1 : -1;
      ASSERT_EQ(table.size(), size);
      const auto other = static_cast<uint32_t>(random() % ids.size());
      const auto found = table.find(hash(other), [&](uint32_t x) { return ids[x] == ids[other]; });
      ASSERT_EQ(found, held[other] ? other : id_table::none);
    }
  }
}

} // namespace
} // namespace troupe::policies
