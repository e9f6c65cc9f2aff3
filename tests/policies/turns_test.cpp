#include "policies/turns.hpp"

#include <map>
#include <string>

#include <gtest/gtest.h>

namespace troupe::policies {
namespace {

std::string next(std::map<std::string, bool>& entries, const std::string& last) {
  const auto at = next_in_turn(entries, last, [](const auto& entry) { return entry.second; });
  return at == entries.end() ? "nobody" : at->first;
}

TEST(turns, go_round_and_skip_who_has_nothing_to_do) {
  std::map<std::string, bool> entries{{"a", true}, {"b", false}, {"c", true}};
  EXPECT_EQ(next(entries, ""), "a");
  EXPECT_EQ(next(entries, "a"), "c");
  EXPECT_EQ(next(entries, "c"), "a");
  EXPECT_EQ(next(entries, "b"), "c") << "the last one need not be there any more, or be ready";
  entries["a"] = false;
  EXPECT_EQ(next(entries, "c"), "c") << "alone, it has every turn";
}

TEST(turns, nobody_has_one_when_all_are_idle) {
  std::map<std::string, bool> entries;
  EXPECT_EQ(next(entries, "a"), "nobody");
  entries["b"] = false;
  EXPECT_EQ(next(entries, "a"), "nobody");
}

TEST(turns, what_was_used_longest_ago_goes_beyond_the_limit) {
  const std::vector<int64_t> used{50, 10, 40, 20, 30};
  EXPECT_EQ(beyond_recent(used, 3), (std::vector<size_t>{3, 1}));
  EXPECT_TRUE(beyond_recent(used, 5).empty());
  EXPECT_EQ(beyond_recent(used, 0).size(), 5u);
  EXPECT_EQ(beyond_recent(std::vector<int64_t>{7, 7, 7}, 2), (std::vector<size_t>{2}));
}

} // namespace
} // namespace troupe::policies
