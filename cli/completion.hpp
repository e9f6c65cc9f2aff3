#pragma once
#include <string>
#include <utility>
#include <vector>

namespace CLI {
class App;
}

namespace troupe::cli {

/// What may be typed after one command, as the completion scripts need it.
struct command_words {
  struct option {
    std::vector<std::string> names; ///< "--output", "-o"
    std::string about;
    bool takes_value = false;
    std::vector<std::string> choices; ///< of its value; empty = any
  };
  std::string path; ///< "" for `troupe` itself, "/config/check" for a subcommand
  std::vector<std::pair<std::string, std::string>> commands; ///< name, what it does
  std::vector<option> options;
  std::vector<std::string> choices; ///< of the positional argument
  bool models = false;              ///< the positional argument is a model
};

/// `app` and everything below it: the scripts are made of this alone, so they cannot go stale.
std::vector<command_words> words_of(const CLI::App& app);

/// A script for "bash", "zsh" or "fish" that completes commands, flags, values and model names.
std::string completion_script(const CLI::App& app, const std::string& shell);

} // namespace troupe::cli
