#pragma once
#include <cstdint>
#include <string>

#include "base/error.hpp"
#include "base/ids.hpp"

namespace troupe::actors {

/// Append only: the numbers travel between nodes.
enum class errc : uint8_t {
  /// No model of that name is served here.
  model_not_found = 1,
  /// The node stops.
  shutting_down,
  /// The model could not be loaded now; it may work later.
  load_failed,
  /// The model's files are damaged or of a kind that is not served.
  files_broken,
  /// No worker, or none that is large enough.
  no_capacity,
  /// Options that contradict each other or make no sense.
  invalid_options,
  /// An address that cannot be listened at or reached.
  unreachable,
  /// Something took longer than it may.
  timed_out,
  /// A fault of this program.
  internal,
};

} // namespace troupe::actors

CAF_ERROR_CODE_ENUM(troupe::actors::errc, "actors")

namespace troupe::actors {

inline caf::error no_such_model(const model_id& id) {
  return caf::make_error(errc::model_not_found, "no model " + id.text + " is served here");
}

} // namespace troupe::actors
