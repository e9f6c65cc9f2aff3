#pragma once
#include <optional>
#include <string>

#include "cli/edit_buffer.hpp"

namespace troupe::cli {

/// Reads lines from the terminal at standard input with editing and history; the prompt and the
/// line are drawn on standard error. The terminal is in raw mode only while a line is being read.
class line_editor {
public:
  enum class outcome : unsigned char { line, interrupted, closed };
  struct result {
    outcome how = outcome::closed;
    std::string text;
  };
  result read(const std::string& prompt);

private:
  void draw(const std::string& prompt) const;
  edit_buffer buffer_;
  key_decoder keys_;
};

/// Puts the terminal back as it was before `read`, for a program that ends in the middle of it.
void restore_terminal();

} // namespace troupe::cli
