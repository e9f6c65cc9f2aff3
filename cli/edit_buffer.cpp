#include "cli/edit_buffer.hpp"

#include <utility>

#include "cli/terminal.hpp"

namespace troupe::cli {
namespace {

constexpr size_t history_max = 1000;
constexpr char escape = '\x1b';
constexpr std::string_view paste_end = "\x1b[201~";

key_press press(key what) { return {what, {}}; }

} // namespace

std::optional<key_press> key_decoder::feed(char byte) {
  if (pasting_) {
    pasted_ += byte;
    if (!pasted_.ends_with(paste_end))
      return std::nullopt;
    pasting_ = false;
    pasted_.resize(pasted_.size() - paste_end.size());
    for (char& c : pasted_)
      c = c == '\r' ? '\n' : c; // terminals send returns for line ends
    return key_press{key::text, std::exchange(pasted_, {})};
  }
  if (!pending_.empty() && pending_[0] == escape) {
    pending_ += byte;
    return sequence();
  }
  if (pending_.empty() && (static_cast<unsigned char>(byte) < 0x20 || byte == 0x7f))
    return control(byte);
  pending_ += byte;
  if (pending_.size() < character_bytes(pending_[0]))
    return std::nullopt;
  return key_press{key::text, std::exchange(pending_, {})};
}

std::optional<key_press> key_decoder::control(char byte) {
  switch (byte) {
  case escape:
    pending_ = byte;
    return std::nullopt;
  case '\r':
  case '\n':
    return press(key::enter);
  case 0x7f:
  case 0x08:
    return press(key::backspace);
  case 0x01:
    return press(key::home);
  case 0x02:
    return press(key::left);
  case 0x03:
    return press(key::interrupt);
  case 0x04:
    return press(key::end_of_input);
  case 0x05:
    return press(key::end);
  case 0x06:
    return press(key::right);
  case 0x0b:
    return press(key::kill_to_end);
  case 0x0c:
    return press(key::clear_screen);
  case 0x0e:
    return press(key::down);
  case 0x10:
    return press(key::up);
  case 0x15:
    return press(key::kill_to_start);
  case 0x17:
    return press(key::kill_word);
  case '\t':
    return key_press{key::text, " "};
  default:
    return std::nullopt;
  }
}

std::optional<key_press> key_decoder::sequence() {
  // ESC [ parameters final, ESC O final, or ESC and one character.
  const bool bracket = pending_[1] == '[';
  const bool application = pending_[1] == 'O';
  if ((bracket || application) && pending_.size() == 2)
    return std::nullopt;
  const char last = pending_.back();
  if (bracket && (last < 0x40 || last > 0x7e)) {
    if (pending_.size() > 16)
      pending_.clear(); // no terminal sends this
    return std::nullopt;
  }
  const std::string whole = std::exchange(pending_, {});
  if (whole == "\x1b[200~") {
    pasting_ = true;
    return std::nullopt;
  }
  const std::string_view keyed = std::string_view{whole}.substr(1);
  if (keyed == "[A" || keyed == "OA")
    return press(key::up);
  if (keyed == "[B" || keyed == "OB")
    return press(key::down);
  if (keyed == "[C" || keyed == "OC")
    return press(key::right);
  if (keyed == "[D" || keyed == "OD")
    return press(key::left);
  if (keyed == "[H" || keyed == "OH" || keyed == "[1~" || keyed == "[7~")
    return press(key::home);
  if (keyed == "[F" || keyed == "OF" || keyed == "[4~" || keyed == "[8~")
    return press(key::end);
  if (keyed == "[3~")
    return press(key::remove);
  return std::nullopt;
}

void edit_buffer::apply(const key_press& pressed) {
  switch (pressed.what) {
  case key::text:
    return insert(pressed.text);
  case key::left:
    cursor_ = before(cursor_);
    return;
  case key::right:
    cursor_ = after(cursor_);
    return;
  case key::home:
    cursor_ = 0;
    return;
  case key::end:
    cursor_ = text_.size();
    return;
  case key::backspace:
    return erase(before(cursor_), cursor_);
  case key::remove:
    return erase(cursor_, after(cursor_));
  case key::kill_to_end:
    return erase(cursor_, text_.size());
  case key::kill_to_start:
    return erase(0, cursor_);
  case key::kill_word: {
    size_t from = cursor_;
    while (from > 0 && text_[from - 1] == ' ')
      --from;
    while (from > 0 && text_[from - 1] != ' ')
      --from;
    return erase(from, cursor_);
  }
  case key::up:
    if (recalled_ > 0)
      recall(recalled_ - 1);
    return;
  case key::down:
    if (recalled_ < history_.size())
      recall(recalled_ + 1);
    return;
  default:
    return;
  }
}

std::string edit_buffer::finish() {
  if (!text_.empty() && (history_.empty() || history_.back() != text_))
    history_.push_back(text_);
  if (history_.size() > history_max)
    history_.erase(history_.begin());
  std::string line = std::move(text_);
  abandon();
  return line;
}

void edit_buffer::abandon() {
  text_.clear();
  unfinished_.clear();
  cursor_ = 0;
  recalled_ = history_.size();
}

void edit_buffer::insert(std::string_view text) {
  text_.insert(cursor_, text);
  cursor_ += text.size();
}

size_t edit_buffer::before(size_t at) const {
  if (at == 0)
    return 0;
  do
    --at;
  while (at > 0 && (static_cast<unsigned char>(text_[at]) & 0xc0) == 0x80);
  return at;
}

size_t edit_buffer::after(size_t at) const {
  if (at >= text_.size())
    return text_.size();
  do
    ++at;
  while (at < text_.size() && (static_cast<unsigned char>(text_[at]) & 0xc0) == 0x80);
  return at;
}

void edit_buffer::erase(size_t from, size_t to) {
  text_.erase(from, to - from);
  cursor_ = from;
}

void edit_buffer::recall(size_t index) {
  if (recalled_ == history_.size())
    unfinished_ = text_;
  recalled_ = index;
  text_ = index == history_.size() ? unfinished_ : history_[index];
  cursor_ = text_.size();
}

line_view visible_part(const std::string& text, size_t cursor, size_t columns) {
  struct cell {
    std::string text;
    size_t width = 0;
  };
  std::vector<cell> cells;
  size_t cursor_cell = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t bytes = std::min(character_bytes(text[at]), text.size() - at);
    if (at < cursor)
      cursor_cell = cells.size() + 1;
    const bool control = static_cast<unsigned char>(text[at]) < 0x20;
    std::string shown = text[at] == '\n' ? "\u21b5" : control ? "?" : text.substr(at, bytes);
    const size_t width = display_width(shown);
    cells.push_back({std::move(shown), width});
    at += bytes;
  }
  // As much as fits to the left of the cursor, then to its right; one column stays for the cursor.
  size_t first = cursor_cell, left = 0;
  while (first > 0 && left + cells[first - 1].width + 1 <= columns)
    left += cells[--first].width;
  line_view view{{}, left};
  size_t used = 0;
  for (size_t i = first; i < cells.size() && used + cells[i].width + 1 <= columns; ++i) {
    view.text += cells[i].text;
    used += cells[i].width;
  }
  return view;
}

} // namespace troupe::cli
