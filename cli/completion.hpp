#pragma once
#include <string>

namespace CLI {
class App;
}

namespace troupe::cli {

/// A completion script for "bash", "zsh" or "fish", made from the command tree itself, so that it
/// cannot go stale. Empty for another shell.
std::string completion_script(const CLI::App& app, const std::string& shell);

} // namespace troupe::cli
