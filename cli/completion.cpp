#include "cli/completion.hpp"

#include <CLI/CLI.hpp>

namespace troupe::cli {

namespace {

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const auto& word : words)
    out += (out.empty() ? "" : " ") + word;
  return out;
}

/// The subcommands and long flags that may follow `app`.
std::vector<std::string> words_of(const CLI::App& app) {
  std::vector<std::string> words;
  for (const auto* child : app.get_subcommands([](const CLI::App*) { return true; }))
    words.push_back(child->get_name());
  for (const auto* option : app.get_options())
    for (const auto& name : option->get_lnames())
      words.push_back("--" + name);
  return words;
}

/// One `case` line for each command below `app`.
std::string cases(const CLI::App& app, const std::string& path) {
  std::string out = "    \"" + path + "\") words=\"" + joined(words_of(app)) + "\" ;;\n";
  for (const auto* child : app.get_subcommands([](const CLI::App*) { return true; }))
    out += cases(*child, path + (path.empty() ? "" : " ") + child->get_name());
  return out;
}

std::string bash_script(const CLI::App& app) {
  return "_troupe() {\n"
         "  local path=\"\" word words=\"\" i\n"
         "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
         "    word=${COMP_WORDS[i]}\n"
         "    case $word in -*) ;; *) path=\"${path:+$path }$word\" ;; esac\n"
         "  done\n"
         "  case $path in\n" +
         cases(app, "") +
         "  esac\n"
         "  COMPREPLY=($(compgen -W \"$words\" -f -- \"${COMP_WORDS[COMP_CWORD]}\"))\n"
         "}\n"
         "complete -F _troupe troupe\n";
}

std::string fish_script(const CLI::App& app) {
  std::string out;
  for (const auto* child : app.get_subcommands([](const CLI::App*) { return true; })) {
    out += "complete -c troupe -n __fish_use_subcommand -a " + child->get_name() + " -d '" +
           child->get_description() + "'\n";
    for (const auto* option : child->get_options())
      for (const auto& name : option->get_lnames())
        out += "complete -c troupe -n '__fish_seen_subcommand_from " + child->get_name() + "' -l " +
               name + "\n";
  }
  return out;
}

} // namespace

std::string completion_script(const CLI::App& app, const std::string& shell) {
  if (shell == "bash")
    return bash_script(app);
  if (shell == "zsh")
    return "autoload -U +X bashcompinit && bashcompinit\n" + bash_script(app);
  if (shell == "fish")
    return fish_script(app);
  return {};
}

} // namespace troupe::cli
