#include "storage/store/journal.hpp"

#include <random>

#include <gtest/gtest.h>

#include "storage/model_dir.hpp"
#include "tests/storage/model_files.hpp"

namespace troupe::storage {
namespace {

TEST(range_set, agrees_with_a_bit_per_byte) {
  std::mt19937_64 random{7};
  for (int round = 0; round < 300; ++round) {
    constexpr uint64_t size = 60;
    range_set set;
    std::vector<bool> there(size);
    for (int i = 0; i < 8; ++i) {
      const auto begin = random() % size;
      const auto length = random() % (size - begin + 1);
      set.add({begin, length});
      std::fill_n(there.begin() + static_cast<std::ptrdiff_t>(begin), length, true);
    }
    EXPECT_EQ(set.covered(), static_cast<uint64_t>(std::count(there.begin(), there.end(), true)));
    const auto first_gap = std::find(there.begin(), there.end(), false);
    EXPECT_EQ(set.front(), static_cast<uint64_t>(first_gap - there.begin()));
    const auto piece = 1 + random() % 20;
    for (const auto& gap : set.missing(size, piece)) {
      EXPECT_LE(gap.length, piece);
      EXPECT_GT(gap.length, 0u);
      for (auto at = gap.offset; at < gap.offset + gap.length; ++at) {
        EXPECT_FALSE(there[at]);
        there[at] = true;
      }
    }
    EXPECT_EQ(std::count(there.begin(), there.end(), true), static_cast<std::ptrdiff_t>(size));
  }
}

TEST(journal, remembers_what_was_done_for_the_same_version_only) {
  test::temporary_directory dir;
  const auto file = dir.path() / "j";
  {
    auto one = journal::open(file, {100, "\"v 1\"", {}}, false);
    ASSERT_TRUE(one) << describe(one.error());
    EXPECT_EQ(one->content().done.covered(), 0u);
    EXPECT_FALSE(one->add({0, 30}));
    EXPECT_FALSE(one->add({50, 10}));
  }
  EXPECT_EQ(journal::open(file, {100, "\"v 1\"", {}}, false)->content().done.covered(), 40u);
  EXPECT_EQ(journal::open(file, {100, "\"v 1\"", {}}, false)->content().done.front(), 30u);
  EXPECT_EQ(journal::open(file, {100, "other", {}}, false)->content().done.covered(), 0u);
  EXPECT_EQ(journal::open(file, {100, "\"v 1\"", {}}, false)->content().done.covered(), 0u)
      << "begun anew for the other version";
}

TEST(journal, a_source_without_versions_is_fetched_from_the_beginning) {
  test::temporary_directory dir;
  const auto file = dir.path() / "j";
  EXPECT_FALSE(journal::open(file, {10, "", {}}, false)->add({0, 5}));
  EXPECT_EQ(journal::open(file, {10, "", {}}, false)->content().done.covered(), 0u);
}

TEST(journal, cut_at_any_byte_it_holds_a_part_of_the_truth_and_can_be_continued) {
  test::temporary_directory dir;
  const auto file = dir.path() / "j";
  const journal_subject subject{1000, "v", {}};
  {
    auto whole = journal::open(file, subject, true);
    for (const uint64_t at : {0, 100, 200, 500, 300})
      EXPECT_FALSE(whole->add({at, 100}));
  }
  const auto text = read_small_file(file, 1 << 20);
  ASSERT_GT(text.size(), 100u);
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    test::write_file(file, text.substr(0, cut));
    uint64_t before = 0;
    {
      auto again = journal::open(file, subject, true);
      ASSERT_TRUE(again);
      before = again->content().done.covered();
      EXPECT_EQ(before % 100, 0u) << cut;
      EXPECT_FALSE(again->add({900, 100}));
    }
    EXPECT_EQ(journal::open(file, subject, true)->content().done.covered(), before + 100) << cut;
  }
}

TEST(journal, verified_counts_only_with_every_byte) {
  const journal_subject subject{10, "v", "b"};
  const std::string head = "troupe-journal 1\nsize 10\nversion v\nboot b\n";
  EXPECT_TRUE(parse_journal(head + "range 0 10\nverified\n", subject).verified);
  EXPECT_FALSE(parse_journal(head + "range 0 9\nverified\n", subject).verified);
  EXPECT_EQ(parse_journal(head + "range 0 11\n", subject).done.covered(), 0u);
  EXPECT_EQ(parse_journal(head + "range 0 5\nrubbish\n", subject).done.covered(), 0u);
  EXPECT_EQ(parse_journal(head + "range 18446744073709551615 5\n", subject).done.covered(), 0u);
  EXPECT_EQ(parse_journal(head + "range 0 5\n", {10, "v", "another boot"}).done.covered(), 0u);
}

} // namespace
} // namespace troupe::storage
