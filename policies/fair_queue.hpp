#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>

#include "base/instant.hpp"
#include "policies/fair_cost.hpp"

namespace troupe::policies {

/// Classes that come before all shares: who waits in a higher one goes first.
enum class fair_priority : uint8_t { interactive, standard, batch };
inline constexpr size_t fair_priorities = 3;

/// Who pays, on one level of a hierarchy. Any 64-bit id will do.
struct fair_share {
  uint64_t id = 0;
  double weight = 1; ///< what its requests cost is divided by this; finite and above 0
  bool operator==(const fair_share&) const = default;
};

/// Organisation, user within it, adapter within that.
inline constexpr size_t fair_levels_max = 3;

struct fair_request {
  uint64_t id = 0; ///< unique among those that wait or run
  std::array<fair_share, fair_levels_max> shares{};
  fair_priority priority = fair_priority::standard;
  uint32_t input_tokens = 0;
  uint32_t cached_tokens = 0; ///< of the input; more than the input counts as all of it
  uint32_t output_max = std::numeric_limits<uint32_t>::max();
  std::optional<uint32_t> predicted_output{}; ///< unset = the queue predicts, if it does at all
};

enum class fair_arrival : uint8_t {
  queued,
  duplicate,  ///< its id waits or runs already
  bad_weight, ///< a weight that is not a finite number above 0
  limited     ///< over the rate that the policy allows its tenant
};

/// In which order requests of several tenants are admitted to one engine, and what each has been
/// charged. Calls for a request come in this order: arrive, then take or remove; after take any
/// number of charge, then finish. Calls with unknown ids do nothing.
class fair_queue {
public:
  virtual ~fair_queue() = default;
  /// `now` never goes backwards.
  virtual fair_arrival arrive(const fair_request& request, instant now) = 0;
  /// The request whose turn it is, or null. Valid until the next call. A caller that has no room
  /// for it admits nobody: skipping it would break the bounds.
  virtual const fair_request* next() = 0;
  /// Takes what `next` shows: it runs from now on, and its input is charged.
  virtual std::optional<fair_request> take() = 0;
  /// Withdraws a request that waits. False if it does not.
  virtual bool remove(uint64_t id) = 0;
  /// A running request has made `tokens` more output tokens.
  virtual void charge(uint64_t id, uint32_t tokens) = 0;
  /// A running request has ended; what was charged for tokens it did not make is given back.
  virtual void finish(uint64_t id) = 0;
  virtual size_t waiting() const = 0;
  /// Tenants that are remembered.
  virtual size_t tenants() const = 0;
};

/// What is wrong with a request's weights, as far as the first `levels` count.
bool weights_valid(const fair_request& request, size_t levels);

} // namespace troupe::policies
