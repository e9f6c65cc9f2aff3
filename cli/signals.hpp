#pragma once
#include <chrono>
#include <optional>

namespace troupe::cli {

/// SIGINT and SIGTERM as events that a thread can wait for; SIGPIPE is ignored. Make one
/// before the first thread starts: threads inherit the blocked signals.
class signal_watch {
public:
  /// With `hangup` SIGHUP too, which otherwise does what it does to any program.
  explicit signal_watch(bool hangup = false);
  ~signal_watch();
  signal_watch(const signal_watch&) = delete;
  signal_watch& operator=(const signal_watch&) = delete;
  /// The next signal's number, or 0 after wake() or when the time is over.
  int wait(std::optional<std::chrono::milliseconds> timeout = std::nullopt);
  /// Ends a wait, the present or the next. Any thread.
  void wake();

private:
  int signals_ = -1;
  int woken_ = -1;
};

} // namespace troupe::cli
