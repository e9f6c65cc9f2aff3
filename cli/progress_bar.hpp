#pragma once
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace troupe::cli {

/// One line of at most `columns`: "loading [=====>    ]  52%  1.2 GiB / 2.3 GiB  410 MiB/s".
/// Without a total only the phase is shown.
std::string progress_text(std::string_view phase, uint64_t done_bytes, uint64_t total_bytes,
                          double seconds, size_t columns);

/// A progress line on standard error that is redrawn in place and leaves no trace. Nothing is shown
/// when standard error is no terminal. One thread at a time.
class progress_bar {
public:
  progress_bar();
  void update(std::string_view phase, uint64_t done_bytes, uint64_t total_bytes);
  void clear();

private:
  using clock = std::chrono::steady_clock;
  bool terminal_;
  bool shown_ = false;
  clock::time_point begun_{};
  clock::time_point drawn_{};
};

} // namespace troupe::cli
