#include "cli/line_editor.hpp"

#include <atomic>
#include <cerrno>
#include <iostream>

#include <termios.h>
#include <unistd.h>

#include "cli/terminal.hpp"

namespace troupe::cli {
namespace {

termios before_raw;
std::atomic<bool> is_raw = false;

constexpr const char* paste_on = "\033[?2004h";
constexpr const char* paste_off = "\033[?2004l";

/// Raw mode as long as it lives: keys come one by one, unechoed, and Ctrl-C is a key.
class raw_mode {
public:
  raw_mode() {
    if (tcgetattr(STDIN_FILENO, &before_raw) != 0)
      return;
    termios raw = before_raw;
    raw.c_iflag &= ~static_cast<tcflag_t>(ICRNL | IXON | BRKINT | INPCK | ISTRIP);
    raw.c_lflag &= ~static_cast<tcflag_t>(ECHO | ICANON | ISIG | IEXTEN);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    is_raw = tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == 0;
    std::cerr << paste_on << std::flush;
  }
  ~raw_mode() { restore_terminal(); }
  raw_mode(const raw_mode&) = delete;
  raw_mode& operator=(const raw_mode&) = delete;
};

} // namespace

void restore_terminal() {
  if (!is_raw.exchange(false))
    return;
  std::cerr << paste_off << std::flush;
  tcsetattr(STDIN_FILENO, TCSADRAIN, &before_raw);
}

line_editor::result line_editor::read(const std::string& prompt) {
  const raw_mode raw;
  draw(prompt);
  for (char byte = 0;;) {
    const auto got = ::read(STDIN_FILENO, &byte, 1);
    if (got < 0 && errno == EINTR)
      continue;
    if (got <= 0)
      return {outcome::closed, {}};
    const auto pressed = keys_.feed(byte);
    if (!pressed)
      continue;
    switch (pressed->what) {
    case key::enter:
      buffer_.apply({key::end, {}});
      draw(prompt);
      std::cerr << "\r\n" << std::flush;
      return {outcome::line, buffer_.finish()};
    case key::interrupt:
      buffer_.abandon();
      std::cerr << "^C\r\n" << std::flush;
      return {outcome::interrupted, {}};
    case key::end_of_input:
      if (!buffer_.text().empty())
        buffer_.apply({key::remove, {}});
      else {
        std::cerr << "\r\n" << std::flush;
        return {outcome::closed, {}};
      }
      break;
    case key::clear_screen:
      std::cerr << "\033[H\033[2J";
      break;
    default:
      buffer_.apply(*pressed);
    }
    draw(prompt);
  }
}

void line_editor::draw(const std::string& prompt) const {
  const size_t columns = terminal_columns(STDIN_FILENO);
  const size_t taken = display_width(prompt);
  const auto view =
      visible_part(buffer_.text(), buffer_.cursor(), columns > taken + 8 ? columns - taken : 8);
  std::cerr << "\r\033[K" << prompt << view.text << "\r\033[" << taken + view.cursor_column << "C"
            << std::flush;
}

} // namespace troupe::cli
