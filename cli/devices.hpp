#pragma once

namespace troupe::cli {

/// Prints this machine's devices, each with its memory and the result of its self-check, and why
/// there is no CUDA device if there is none. Returns an exit code: failed if a device fails.
int show_devices(bool json);

} // namespace troupe::cli
