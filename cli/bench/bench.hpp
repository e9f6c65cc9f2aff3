#pragma once
#include "cli/bench/options.hpp"

namespace troupe::cli::bench {

/// `troupe bench`: measures, prints the report on standard output and what is being done on
/// standard error. Gives an exit code. Ctrl-C ends it with what has been measured so far; a second
/// one at once.
int run(const options& given);

} // namespace troupe::cli::bench
