#pragma once
#include <string>

namespace troupe::cli {

/// One line "troupe: ..." on standard error; returns `code`, so that a command can end with it.
int complain(const std::string& what, int code);

} // namespace troupe::cli
