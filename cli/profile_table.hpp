#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "gpu/profile.hpp"

namespace troupe::cli {

/// What every op took, dearest first, then what is left of `seconds`: calls and milliseconds for
/// each of `steps`, or of all where `steps` is 0. `seconds` = 0: shares are of the ops alone.
std::string profile_table(std::span<const gpu::op_cost> costs, double seconds, uint64_t steps,
                          bool colour);

} // namespace troupe::cli
