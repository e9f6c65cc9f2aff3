#include "actors/load_book.hpp"

#include <gtest/gtest.h>

namespace troupe::actors {
namespace {

using std::chrono::seconds;

load_account from_disk(const char* model, double bytes) {
  load_account out;
  out.model = {model};
  out.bytes[static_cast<size_t>(policies::load_tier::disk)] = bytes;
  return out;
}

TEST(load_book, counts_what_still_comes_for_the_loads_before) {
  load_book book;
  const instant begun{seconds{100}};
  book.probe(policies::load_tier::disk, 1e8);
  book.announce(1, {"first"}, begun);
  book.announce(2, {"second"}, begun);
  book.announce(1, {"third"}, begun);
  EXPECT_EQ(book.coming_bytes(1, {"third"}, begun), 0) << "nothing is known of them yet";
  const auto expected = book.forecast(1, from_disk("first", 1e9), begun);
  book.forecast(2, from_disk("second", 3e8), begun);
  EXPECT_EQ(book.coming_bytes(1, {"first"}, begun), 0);
  EXPECT_NEAR(book.coming_bytes(2, {"second"}, begun), 1e9, 1e6);
  EXPECT_NEAR(book.coming_bytes(1, {"third"}, begun), 1.3e9, 1e6);
  // Half of the first has come, then all of it.
  book.begin(1, {"first"}, begun);
  const auto half = begun + std::chrono::duration_cast<duration>(
                                std::chrono::duration<double>{expected.seconds.bytes / 2});
  EXPECT_NEAR(book.coming_bytes(1, {"third"}, half), 8e8, 1e6);
  book.came(1, {"first"}, expected.bytes, half);
  EXPECT_NEAR(book.coming_bytes(1, {"third"}, half), 3e8, 1e6);
}

TEST(load_book, memory_that_is_there_already_makes_no_room) {
  load_book book;
  book.announce(1, {"pooled"}, {});
  book.announce(1, {"next"}, {});
  auto pooled = from_disk("pooled", 0);
  pooled.bytes[static_cast<size_t>(policies::load_tier::pool)] = 1e9;
  book.forecast(1, pooled, {});
  EXPECT_EQ(book.coming_bytes(1, {"next"}, {}), 0);
}

TEST(load_book, what_the_page_cache_has_comes_into_the_pool_unless_all_of_it_is_mapped) {
  load_book book;
  book.announce(1, {"mapped"}, {});
  book.announce(1, {"half"}, {});
  book.announce(1, {"next"}, {});
  auto cached = from_disk("mapped", 0);
  cached.bytes[static_cast<size_t>(policies::load_tier::cached)] = 1e9;
  book.forecast(1, cached, {});
  EXPECT_EQ(book.coming_bytes(1, {"next"}, {}), 0);
  cached.model = {"half"};
  cached.bytes[static_cast<size_t>(policies::load_tier::disk)] = 2e9;
  book.forecast(1, cached, {});
  EXPECT_NEAR(book.coming_bytes(1, {"next"}, {}), 3e9, 1e6);
}

} // namespace
} // namespace troupe::actors
