#include "policies/stop_matcher.hpp"

#include <random>

#include <gtest/gtest.h>

namespace troupe::policies {
namespace {

TEST(stop_matcher, without_stop_strings_everything_is_final_at_once) {
  stop_matcher matcher;
  EXPECT_EQ(matcher.push("abc"), "abc");
  EXPECT_EQ(matcher.flush(), "");
  EXPECT_FALSE(matcher.stopped());
}

TEST(stop_matcher, cuts_the_text_at_a_stop_string_within_a_piece) {
  stop_matcher matcher{{"END"}};
  EXPECT_EQ(matcher.push("one END two"), "one ");
  EXPECT_TRUE(matcher.stopped());
  EXPECT_EQ(matcher.push("more"), "");
  EXPECT_EQ(matcher.flush(), "");
}

TEST(stop_matcher, holds_back_what_may_begin_a_stop_string_across_pieces) {
  stop_matcher matcher{{"\n\nUser:"}};
  EXPECT_EQ(matcher.push("hello\n"), "hello");
  EXPECT_EQ(matcher.push("\nUs"), "");
  EXPECT_EQ(matcher.push("er"), "");
  EXPECT_EQ(matcher.push(": hi"), "");
  EXPECT_TRUE(matcher.stopped());
}

TEST(stop_matcher, releases_what_was_held_back_once_it_cannot_match) {
  stop_matcher matcher{{"abab!"}};
  EXPECT_EQ(matcher.push("abab"), "");
  EXPECT_EQ(matcher.push("ab"), "ab") << "the second half may still begin it";
  EXPECT_EQ(matcher.push("x"), "ababx");
  EXPECT_EQ(matcher.push("ab"), "");
  EXPECT_EQ(matcher.flush(), "ab");
}

TEST(stop_matcher, takes_the_earliest_of_several_stop_strings) {
  stop_matcher matcher{{"longer stop", "stop", ""}};
  EXPECT_EQ(matcher.push("a longer st"), "a ");
  EXPECT_EQ(matcher.push("op b"), "");
  EXPECT_TRUE(matcher.stopped());
}

TEST(stop_matcher, gives_what_a_search_in_the_whole_text_gives_however_it_is_cut) {
  std::mt19937_64 random{7};
  for (int round = 0; round < 20'000; ++round) {
    std::string text;
    for (size_t i = random() % 24; i > 0; --i)
      text += static_cast<char>('a' + random() % 3);
    std::vector<std::string> stops;
    for (size_t i = 1 + random() % 3; i > 0; --i) {
      auto& stop = stops.emplace_back();
      for (size_t j = 1 + random() % 4; j > 0; --j)
        stop += static_cast<char>('a' + random() % 3);
    }
    // Of stop strings found in one piece the earliest counts, but a shorter one that is complete
    // earlier in time wins: feed byte by byte to define the order.
    stop_matcher by_byte{stops}, by_piece{stops};
    std::string expected, got;
    for (const char c : text)
      expected += by_byte.push({&c, 1});
    expected += by_byte.flush();
    for (size_t at = 0; at < text.size();) {
      const auto length = std::min<size_t>(1 + random() % 2, text.size() - at);
      got += by_piece.push(std::string_view{text}.substr(at, length));
      at += length;
    }
    got += by_piece.flush();
    EXPECT_EQ(by_byte.stopped(), by_piece.stopped());
    for (const auto& stop : stops)
      EXPECT_EQ(got.find(stop), std::string::npos) << text;
    if (!by_byte.stopped()) {
      EXPECT_EQ(got, text);
      EXPECT_EQ(expected, text);
    } else {
      EXPECT_TRUE(text.starts_with(got));
    }
  }
}

} // namespace
} // namespace troupe::policies
