#include "cli/signals.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdlib>

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

namespace troupe::cli {

signal_watch::signal_watch(bool hangup) {
  std::signal(SIGPIPE, SIG_IGN);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  if (hangup)
    sigaddset(&set, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signals_ = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  woken_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (signals_ < 0 || woken_ < 0)
    std::abort(); // not a descriptor left at the start of the program
}

signal_watch::~signal_watch() {
  close(signals_);
  close(woken_);
}

int signal_watch::wait(std::optional<std::chrono::milliseconds> timeout) {
  pollfd sources[] = {{signals_, POLLIN, 0}, {woken_, POLLIN, 0}};
  const auto limit = timeout ? std::clamp<int64_t>(timeout->count(), 0, 1'000'000'000) : -1;
  while (poll(sources, 2, static_cast<int>(limit)) < 0)
    if (errno != EINTR)
      return 0;
  signalfd_siginfo info{};
  if (read(signals_, &info, sizeof info) == sizeof info)
    return static_cast<int>(info.ssi_signo);
  uint64_t count = 0;
  [[maybe_unused]] const auto taken = read(woken_, &count, sizeof count);
  return 0;
}

void signal_watch::wake() {
  const uint64_t one = 1;
  [[maybe_unused]] const auto written = write(woken_, &one, sizeof one);
}

} // namespace troupe::cli
