#pragma once
#include <chrono>
#include <cstddef>
#include <mutex>
#include <set>
#include <string>

#include "storage/store/pull.hpp"

namespace troupe::cli {

/// The lines that show a download on a terminal of `columns`: one per file that is on its way, and
/// one for all of it.
std::string pull_lines(const storage::pull_progress& progress, double seconds, size_t columns);

/// Shows a download on standard error: on a terminal lines that are redrawn in place and leave no
/// trace, elsewhere a line for each file that is done, and now and then how far it is.
class pull_view {
public:
  pull_view();
  void update(const storage::pull_progress& progress);
  /// A line of its own; any thread may call.
  void warn(const std::string& text);
  void clear();

private:
  using clock = std::chrono::steady_clock;
  void erase();
  void print_plain(const storage::pull_progress& progress);

  std::mutex mutex_;
  bool terminal_;
  size_t drawn_lines_ = 0;
  clock::time_point begun_ = clock::now();
  clock::time_point said_ = begun_;
  bool began_files_ = false;
  std::set<std::string> done_;
};

} // namespace troupe::cli
