#pragma once
#include <chrono>
#include <functional>
#include <optional>

#include "storage/sources/source.hpp"

namespace troupe::storage {

/// The pause before trying again after `failures` failures in a row without a byte between them
/// (1, 2, ...); nothing = give up. Called from many threads.
using retry_plan = std::function<std::optional<std::chrono::milliseconds>(unsigned failures)>;

/// Waits; false if `stop` came first.
bool wait_for(std::chrono::milliseconds pause, const std::stop_token& stop);

/// A server that asks to be left alone for longer than this is one that refuses.
inline constexpr std::chrono::minutes wanted_pause_max{5};

/// Whether an error may pass, and the pause before the next attempt if there is to be one.
std::optional<std::chrono::milliseconds>
pause_before_retry(const caf::error& why, const retry_plan& plan, unsigned failures);

/// Runs `work` until it succeeds, fails for good, or `plan` gives up.
template <class T>
caf::expected<T> with_retries(const retry_plan& plan, const std::stop_token& stop,
                              const std::function<caf::expected<T>()>& work) {
  for (unsigned failures = 1;; ++failures) {
    auto out = work();
    if (out)
      return out;
    const auto pause = pause_before_retry(out.error(), plan, failures);
    if (!pause || !wait_for(*pause, stop))
      return out;
  }
}

/// `from.stream`, going on where it broke off.
caf::error stream_with_retries(source& from, const source_file& file, byte_range range,
                               const byte_sink& sink, const retry_plan& plan,
                               const std::stop_token& stop);

} // namespace troupe::storage
