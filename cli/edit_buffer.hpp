#pragma once
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace troupe::cli {

/// What a key press means to the editor.
enum class key : unsigned char {
  none,
  text,
  enter,
  left,
  right,
  home,
  end,
  up,
  down,
  backspace,
  remove,
  kill_to_end,
  kill_to_start,
  kill_word,
  clear_screen,
  interrupt,
  end_of_input
};

struct key_press {
  key what = key::none;
  std::string text; ///< key::text: one whole character, or pasted text with line ends
};

/// Turns the bytes of a terminal in raw mode into key presses; knows UTF-8, the usual escape
/// sequences and bracketed paste.
class key_decoder {
public:
  /// A key press when `byte` completed one.
  std::optional<key_press> feed(char byte);

private:
  std::optional<key_press> control(char byte);
  std::optional<key_press> sequence();
  std::string pending_; ///< an unfinished escape sequence or character
  std::string pasted_;
  bool pasting_ = false;
};

/// One line being typed, with the lines typed before. Positions never split a UTF-8 character.
class edit_buffer {
public:
  /// Applies a key. Interrupt, enter, end of input and screen clearing are the caller's.
  void apply(const key_press& press);
  const std::string& text() const { return text_; }
  size_t cursor() const { return cursor_; }
  /// Takes the line into the history (once in a row, at most 1000) and starts an empty one.
  std::string finish();
  void abandon();

private:
  void insert(std::string_view text);
  size_t before(size_t at) const;
  size_t after(size_t at) const;
  void erase(size_t from, size_t to);
  void recall(size_t index);
  std::string text_;
  size_t cursor_ = 0;
  std::vector<std::string> history_;
  size_t recalled_ = 0;    ///< index into history_; its size = the line being typed
  std::string unfinished_; ///< the line being typed, while an old one is shown
};

/// The part of the line that fits into `columns`, and the column of the cursor in it. Line ends are
/// shown as one visible character each.
struct line_view {
  std::string text;
  size_t cursor_column = 0;
};
line_view visible_part(const std::string& text, size_t cursor, size_t columns);

} // namespace troupe::cli
