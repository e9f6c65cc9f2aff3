#include "cli/progress_bar.hpp"

#include <algorithm>
#include <iostream>

#include <unistd.h>

#include "cli/terminal.hpp"
#include "config/units.hpp"

namespace troupe::cli {

std::string progress_text(std::string_view phase, uint64_t done_bytes, uint64_t total_bytes,
                          double seconds, size_t columns) {
  std::string head{phase};
  if (total_bytes == 0)
    return head.substr(0, columns);
  const double share =
      std::min(1.0, static_cast<double>(done_bytes) / static_cast<double>(total_bytes));
  const auto percent = std::to_string(static_cast<int>(share * 100));
  std::string tail = " " + std::string(3 - percent.size(), ' ') + percent + "%  " +
                     config::format_size_rounded(done_bytes) + " / " +
                     config::format_size_rounded(total_bytes);
  if (seconds > 0.2 && done_bytes > 0)
    tail += "  " +
            config::format_size_rounded(
                static_cast<uint64_t>(static_cast<double>(done_bytes) / seconds)) +
            "/s";
  const size_t used = head.size() + 3 + tail.size();
  if (used + 4 > columns)
    return (head + tail).substr(0, columns);
  const size_t width = std::min<size_t>(columns - used, 30);
  const auto filled = static_cast<size_t>(share * static_cast<double>(width));
  std::string bar(filled, '=');
  if (filled < width)
    bar += ">" + std::string(width - filled - 1, ' ');
  return head + " [" + bar + "]" + tail;
}

progress_bar::progress_bar() : terminal_{isatty(STDERR_FILENO) == 1} {}

void progress_bar::update(std::string_view phase, uint64_t done_bytes, uint64_t total_bytes) {
  const auto now = clock::now();
  // Twenty times a second is smooth; a terminal far away must not be flooded.
  if (!terminal_ ||
      (shown_ && now - drawn_ < std::chrono::milliseconds{50} && done_bytes < total_bytes))
    return;
  if (!shown_)
    begun_ = now;
  shown_ = true;
  drawn_ = now;
  const double seconds = std::chrono::duration<double>(now - begun_).count();
  std::cerr << "\r\033[K"
            << progress_text(phase, done_bytes, total_bytes, seconds,
                             terminal_columns(STDERR_FILENO) - 1)
            << std::flush;
}

void progress_bar::clear() {
  if (shown_)
    std::cerr << "\r\033[K" << std::flush;
  shown_ = false;
}

} // namespace troupe::cli
