#include "cli/edit_buffer.hpp"

#include <gtest/gtest.h>

namespace troupe::cli {
namespace {

/// A person at a keyboard.
struct typist {
  key_decoder keys;
  edit_buffer line;
  /// Types bytes as a terminal sends them; returns the last key that the caller has to act on.
  key type(const std::string& bytes) {
    key last = key::none;
    for (const char byte : bytes)
      if (const auto pressed = keys.feed(byte)) {
        line.apply(*pressed);
        last = pressed->what;
      }
    return last;
  }
};

constexpr auto left = "\x1b[D", up = "\x1b[A", down = "\x1bOB", del = "\x1b[3~";

TEST(edit_buffer, inserts_where_the_cursor_is_and_never_splits_a_character) {
  typist one;
  one.type("nave");
  one.type(std::string{left} + left);
  one.type("\xc3"); // half a character is none yet
  EXPECT_EQ(one.line.text(), "nave");
  one.type("\xaf");
  EXPECT_EQ(one.line.text(), "na\xc3\xafve");
  one.type(left);
  EXPECT_EQ(one.line.cursor(), 2u) << "before both bytes";
  one.type(del);
  EXPECT_EQ(one.line.text(), "nave");
}

TEST(edit_buffer, knows_the_keys_of_a_shell) {
  typist one;
  one.type("one two three\x17"); // ctrl-w
  EXPECT_EQ(one.line.text(), "one two ");
  one.type("\x01\x0b"); // ctrl-a, ctrl-k
  EXPECT_EQ(one.line.text(), "");
  one.type("abc\x7f\x02\x15"); // backspace, ctrl-b, ctrl-u
  EXPECT_EQ(one.line.text(), "b");
  EXPECT_EQ(one.type("\x03"), key::interrupt);
  EXPECT_EQ(one.type("\x04"), key::end_of_input);
  EXPECT_EQ(one.type("\r"), key::enter);
}

TEST(edit_buffer, recalls_old_lines_and_comes_back_to_the_unfinished_one) {
  typist one;
  for (const char* text : {"first", "second", "second"}) {
    one.type(text);
    EXPECT_EQ(one.line.finish(), text);
  }
  one.type("half");
  one.type(up);
  EXPECT_EQ(one.line.text(), "second");
  one.type(up);
  EXPECT_EQ(one.line.text(), "first") << "what was typed twice in a row is held once";
  one.type(up);
  EXPECT_EQ(one.line.text(), "first");
  one.type(std::string{down} + down);
  EXPECT_EQ(one.line.text(), "half");
}

TEST(edit_buffer, a_paste_is_one_text_with_its_line_ends) {
  typist one;
  one.type("\x1b[200~two\rlines\x1b[201~");
  EXPECT_EQ(one.line.text(), "two\nlines");
}

TEST(edit_buffer, an_unknown_sequence_types_nothing) {
  typist one;
  one.type("a\x1b[1;5Rb\x1bOPc");
  EXPECT_EQ(one.line.text(), "abc");
}

TEST(edit_buffer, shows_the_part_of_a_long_line_around_the_cursor) {
  const std::string line = "0123456789abcdefghij";
  for (size_t cursor = 0; cursor <= line.size(); ++cursor) {
    const auto view = visible_part(line, cursor, 8);
    ASSERT_LE(view.text.size(), 8u);
    ASSERT_LE(view.cursor_column, view.text.size());
    if (cursor < line.size() && view.cursor_column < view.text.size()) {
      EXPECT_EQ(view.text[view.cursor_column], line[cursor]);
    }
  }
  EXPECT_EQ(visible_part("short", 5, 80).text, "short");
}

} // namespace
} // namespace troupe::cli
