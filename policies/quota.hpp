#pragma once
#include <cstdint>
#include <deque>
#include <optional>
#include <string_view>

#include "base/instant.hpp"

namespace troupe::policies {

/// Counts what happened within the last `span`, exactly: what happened at t counts in [t, t +
/// span). There are no windows that begin anew, so no edge at which twice the limit would pass.
/// Holds one entry per distinct time that still counts; every entry is at least 1, so `limit`
/// bounds them as long as the caller asks before it adds.
class sliding_window {
public:
  /// A limit of 0 is none.
  sliding_window(uint64_t limit, duration span) : limit_{limit}, span_{span} {}

  uint64_t limit() const { return limit_; }
  bool limited() const { return limit_ > 0; }
  void set_limit(uint64_t limit) { limit_ = limit; }
  uint64_t used(instant now) const;
  uint64_t left(instant now) const;
  bool fits(uint64_t amount, instant now) const { return !limited() || amount <= left(now); }
  /// How long until `amount` fits if nothing else is added; nothing if it is more than the limit.
  std::optional<duration> wait(uint64_t amount, instant now) const;
  /// How long until everything is free again.
  duration reset(instant now) const;

  /// `now` never goes backwards. The entry's number, for correct().
  uint64_t add(uint64_t amount, instant now);
  /// An entry turned out to be `after` instead of `before`. If it counts no more, nothing happens.
  void correct(uint64_t entry, uint64_t before, uint64_t after, instant now);

private:
  struct entry {
    instant at;
    uint64_t amount = 0;
  };
  void forget(instant now);

  uint64_t limit_;
  duration span_;
  std::deque<entry> entries_;
  uint64_t first_ = 0; ///< number of the first entry that is kept
  uint64_t total_ = 0; ///< of those that are kept
};

struct quota_limits {
  uint64_t rpm = 0;         ///< requests per minute; 0 = no limit, as with the others
  uint64_t tpm = 0;         ///< tokens per minute
  uint64_t concurrency = 0; ///< requests at a time
};

/// What a tenant can be over. The last ones are the scheduler's: see tenant_holds.
enum class quota_kind : uint8_t {
  requests,
  tokens,
  concurrency,
  budget,
  answer, ///< the length of one
  queue,
  warm_models,
  memory,
  cold_starts,
};
constexpr size_t quota_kinds = 9;
/// As the configuration calls it: "rpm", "vram".
std::string_view name_of(quota_kind kind);

/// What a tenant may take beside tokens. 0 = no limit.
struct tenant_caps {
  uint64_t queue = 0;                ///< requests that wait for a place
  uint64_t warm_models = 0;          ///< models that it holds
  uint64_t memory_bytes = 0;         ///< its share of what those take
  uint64_t cold_starts_per_hour = 0; ///< in any 60 minutes
  bool enforce = true;               ///< false: what is over a limit is only told
  bool any() const { return (queue | warm_models | memory_bytes | cold_starts_per_hour) > 0; }
};

struct quota_refusal {
  quota_kind kind = quota_kind::requests;
  duration retry_after{0};
  bool ever = true; ///< false: it asks for more than the limit, so waiting does not help
};

/// One tenant's limits. Tokens are reserved before a request runs (its prompt and the longest
/// answer that it may get) and settled when it has ended: nobody gets beyond a limit by asking for
/// much at once, and what was not used comes back.
class quota {
public:
  explicit quota(quota_limits limits);
  /// Counts a request that begins, unless that is over a limit. What runs too long is told apart
  /// from what comes too fast: a place is expected to become free in `place_wait`.
  std::optional<quota_refusal> begin(instant now);
  void end();

  struct reservation {
    uint64_t entry = 0;
    uint64_t tokens = 0;
  };
  std::optional<quota_refusal> reserve(uint64_t tokens, instant now, reservation& out);
  void settle(const reservation& what, uint64_t tokens, instant now);

  /// What counts goes on counting.
  void set_limits(quota_limits limits);
  const quota_limits& limits() const { return limits_; }
  const sliding_window& requests() const { return requests_; }
  const sliding_window& tokens() const { return tokens_; }
  uint64_t running() const { return running_; }
  static constexpr duration place_wait = std::chrono::seconds{1};

private:
  quota_limits limits_;
  sliding_window requests_, tokens_;
  uint64_t running_ = 0;
};

} // namespace troupe::policies
