#include "storage/sources/retry.hpp"

#include <algorithm>
#include <condition_variable>
#include <mutex>

#include "storage/errors.hpp"

namespace troupe::storage {

bool wait_for(std::chrono::milliseconds pause, const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any never;
  std::unique_lock guard{mutex};
  never.wait_for(guard, stop, pause, [] { return false; });
  return !stop.stop_requested();
}

std::optional<std::chrono::milliseconds>
pause_before_retry(const caf::error& why, const retry_plan& plan, unsigned failures) {
  if (why != errc::unavailable || !plan)
    return std::nullopt;
  auto pause = plan(failures);
  const auto wanted = wanted_pause(why);
  if (!pause || (wanted && *wanted > wanted_pause_max))
    return std::nullopt;
  return std::max(*pause, wanted.value_or(std::chrono::milliseconds{0}));
}

caf::error stream_with_retries(source& from, const source_file& file, byte_range range,
                               const byte_sink& sink, const retry_plan& plan,
                               const std::stop_token& stop) {
  unsigned failures = 0;
  while (true) {
    uint64_t got = 0;
    bool refused = false; // by the sink: no fault of the source
    const auto count = [&](std::span<const std::byte> piece) {
      auto why = sink(piece);
      refused = static_cast<bool>(why);
      got += refused ? 0 : piece.size();
      return why;
    };
    auto why = from.stream(file, range, count, stop);
    if (!why || refused)
      return why;
    range.offset += got;
    range.length -= got;
    failures = got > 0 ? 1 : failures + 1;
    const auto pause = pause_before_retry(why, plan, failures);
    if (!pause)
      return why;
    if (!wait_for(*pause, stop))
      return caf::make_error(errc::cancelled, "fetching " + file.path + ": cancelled");
  }
}

} // namespace troupe::storage
