#include "cli/usage_error.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "config/keys.hpp"

namespace troupe::cli {
namespace {

/// The candidate that `word` is most likely a misspelling of, or empty.
std::string near(const std::string& word, const std::vector<std::string>& candidates) {
  auto folded = candidates; // `closest` takes '-' of the word for '_'
  for (auto& one : folded)
    std::ranges::replace(one, '-', '_');
  const std::vector<std::string_view> views(folded.begin(), folded.end());
  const auto found = std::ranges::find(views, config::closest(word, views));
  return found == views.end() ? "" : candidates[static_cast<size_t>(found - views.begin())];
}

std::vector<std::string> command_names(const CLI::App& in) {
  std::vector<std::string> names;
  for (const auto* command : in.get_subcommands(nullptr)) {
    names.push_back(command->get_name());
    for (const auto& alias : command->get_aliases())
      names.push_back(alias);
  }
  return names;
}

std::vector<std::string> flag_names(const CLI::App& in) {
  std::vector<std::string> names;
  for (const auto* option : in.get_options())
    for (const auto& name : option->get_lnames())
      names.push_back("--" + name);
  return names;
}

/// What is wrong with a word that has no place.
std::string unexpected(const CLI::App& in, const std::string& word) {
  const bool is_flag = word.starts_with('-');
  const auto name = is_flag ? word.substr(0, word.find('=')) : word;
  const bool is_command = !is_flag && !in.get_subcommands(nullptr).empty();
  if (!is_flag && !is_command)
    return "'" + name + "' is one word too many";
  const auto meant = near(name, is_flag ? flag_names(in) : command_names(in));
  return "there is no " + std::string{is_flag ? "option " : "command "} + "'" + name + "'" +
         (meant.empty() ? "" : ": did you mean '" + meant + "'?");
}

/// CLI11's words for a value of the wrong kind name no reason.
std::string readable(std::string text) {
  constexpr std::string_view before = "Could not convert: ";
  const auto equals = text.find(" = ");
  if (text.starts_with(before) && equals != std::string::npos)
    return text.substr(before.size(), equals - before.size()) + " cannot be '" +
           text.substr(equals + 3) + "'";
  return text;
}

} // namespace

std::string usage_error(const CLI::App& app, const CLI::ParseError& why) {
  const CLI::App* at = &app;
  std::string before, path = app.get_name();
  for (auto inner = at->get_subcommands(); !inner.empty(); inner = at->get_subcommands()) {
    at = inner.front();
    before = std::exchange(path, path + " " + at->get_name());
  }
  const auto left = at->remaining();
  const auto next = "`" + path + " --help` lists what there is\n";
  if (!left.empty())
    return path + ": " + unexpected(*at, left.front()) + "\n" + next;
  if (why.get_exit_code() == static_cast<int>(CLI::ExitCodes::RequiredError) &&
      !at->get_subcommands(nullptr).empty())
    return at->help(before);
  return path + ": " + readable(why.what()) + "\n" + next;
}

} // namespace troupe::cli
