#pragma once
#include <string>

namespace CLI {
class App;
class ParseError;
} // namespace CLI

namespace troupe::cli {

/// What to tell when the words that were typed make no sense: what is wrong, in which command, and
/// what to do next; a group of commands without one of them gives its help. Ends with a line end.
std::string usage_error(const CLI::App& app, const CLI::ParseError& why);

} // namespace troupe::cli
