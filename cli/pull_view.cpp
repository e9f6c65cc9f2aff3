#include "cli/pull_view.hpp"

#include <algorithm>
#include <iostream>
#include <utility>

#include <unistd.h>

#include "cli/progress_bar.hpp"
#include "cli/terminal.hpp"
#include "config/units.hpp"

namespace troupe::cli {

namespace {

constexpr size_t file_lines_max = 8;
constexpr size_t name_columns_max = 36;
/// Between plain lines about the whole: for logs, not for eyes.
constexpr auto plain_pause = std::chrono::seconds{10};

/// The end of a long name says more than its beginning.
std::string short_name(std::string name) {
  for (char& c : name)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
      c = '?';
  if (name.size() > name_columns_max)
    name = "..." + name.substr(name.size() - name_columns_max + 3);
  name.resize(std::max(name.size(), name_columns_max), ' ');
  return name;
}

size_t files_done(const storage::pull_progress& progress) {
  return static_cast<size_t>(
      std::ranges::count_if(progress.files, [](const auto& x) { return x.done; }));
}

} // namespace

std::string pull_lines(const storage::pull_progress& progress, double seconds, size_t columns) {
  std::string out;
  size_t shown = 0;
  for (const auto& file : progress.files)
    if (!file.done && file.done_bytes > 0 && ++shown <= file_lines_max)
      out +=
          progress_text(short_name(file.path), file.done_bytes, file.size_bytes, 0, columns) + "\n";
  std::string whole = progress.phase;
  if (!progress.files.empty())
    whole += " " + std::to_string(files_done(progress)) + "/" +
             std::to_string(progress.files.size()) + " files";
  whole.resize(std::max(whole.size(), name_columns_max), ' ');
  auto line = progress_text(whole, progress.done_bytes, progress.total_bytes, 0, columns);
  if (seconds > 0.2 && progress.fetched_bytes > 0) {
    const auto rate = static_cast<uint64_t>(static_cast<double>(progress.fetched_bytes) / seconds);
    line += "  " + config::format_size_rounded(rate) + "/s";
  }
  return out + line.substr(0, columns) + "\n";
}

pull_view::pull_view() : terminal_{isatty(STDERR_FILENO) == 1} {}

void pull_view::update(const storage::pull_progress& progress) {
  const std::lock_guard guard{mutex_};
  if (!terminal_)
    return print_plain(progress);
  const double seconds = std::chrono::duration<double>(clock::now() - begun_).count();
  const auto text = pull_lines(progress, seconds, terminal_columns(STDERR_FILENO) - 1);
  std::string out;
  if (drawn_lines_ > 0)
    out = "\033[" + std::to_string(drawn_lines_) + "A";
  out += "\r\033[J" + text;
  drawn_lines_ = static_cast<size_t>(std::ranges::count(text, '\n'));
  std::cerr << out << std::flush;
}

void pull_view::warn(const std::string& text) {
  const std::lock_guard guard{mutex_};
  erase();
  std::cerr << "troupe: " << text << "\n";
}

void pull_view::clear() {
  const std::lock_guard guard{mutex_};
  erase();
}

/// With the mutex held.
void pull_view::erase() {
  if (terminal_ && drawn_lines_ > 0)
    std::cerr << "\033[" << drawn_lines_ << "A\r\033[J" << std::flush;
  drawn_lines_ = 0;
}

void pull_view::print_plain(const storage::pull_progress& progress) {
  if (progress.files.empty())
    return;
  const auto now = clock::now();
  if (!std::exchange(began_files_, true)) {
    for (const auto& file : progress.files)
      if (file.done)
        done_.insert(file.path);
    const auto left = progress.total_bytes - progress.done_bytes;
    if (left > 0)
      std::cerr << "fetching " << config::format_size_rounded(left) << " in "
                << progress.files.size() - done_.size() << " files\n";
  }
  for (const auto& file : progress.files)
    if (file.done && done_.insert(file.path).second)
      std::cerr << file.path << ": " << config::format_size_rounded(file.size_bytes) << ", done ("
                << files_done(progress) << "/" << progress.files.size() << ")\n";
  if (now - said_ < plain_pause || progress.total_bytes == 0)
    return;
  said_ = now;
  std::cerr << config::format_size_rounded(progress.done_bytes) << " of "
            << config::format_size_rounded(progress.total_bytes) << " ("
            << progress.done_bytes * 100 / progress.total_bytes << "%)\n";
}

} // namespace troupe::cli
