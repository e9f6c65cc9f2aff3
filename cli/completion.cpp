#include "cli/completion.hpp"

#include <functional>

#include <CLI/CLI.hpp>

namespace troupe::cli {
namespace {

std::string join(const std::vector<std::string>& words, const std::string& between) {
  std::string out;
  for (const auto& word : words)
    out += (out.empty() ? "" : between) + word;
  return out;
}

/// In single quotes for a shell; `escape` is what a quote becomes.
std::string quoted(const std::string& text, const std::string& escape) {
  std::string out = "'";
  for (const char c : text)
    out += c == '\'' ? escape : std::string(1, c);
  return out + "'";
}

/// CLI11 keeps the members of a checked set only in the option's type name: "TEXT:{table,json}".
std::vector<std::string> choices_of(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const auto open = type.find('{'), close = type.rfind('}');
  std::vector<std::string> choices;
  if (open != std::string::npos && close != std::string::npos && close > open)
    choices = CLI::detail::split(type.substr(open + 1, close - open - 1), ',');
  return choices;
}

void collect(const CLI::App& app, const std::string& path, std::vector<command_words>& out) {
  command_words here;
  here.path = path;
  const auto every = [](const CLI::App*) { return true; };
  for (const auto* child : app.get_subcommands(every)) {
    here.commands.emplace_back(child->get_name(), child->get_description());
    for (const auto& alias : child->get_aliases())
      here.commands.emplace_back(alias, child->get_description());
  }
  for (const auto* option : app.get_options()) {
    if (option->get_positional()) {
      here.models = here.models || option->get_single_name().starts_with("model");
      const auto choices = choices_of(*option);
      here.choices.insert(here.choices.end(), choices.begin(), choices.end());
      continue;
    }
    command_words::option one;
    for (const auto& name : option->get_lnames())
      one.names.push_back("--" + name);
    for (const auto& name : option->get_snames())
      one.names.push_back("-" + name);
    one.about = option->get_description();
    one.takes_value = option->get_expected_max() > 0 && option->get_type_size_max() > 0;
    one.choices = choices_of(*option);
    here.options.push_back(std::move(one));
  }
  out.push_back(std::move(here));
  for (const auto* child : app.get_subcommands(every)) {
    collect(*child, path + "/" + child->get_name(), out);
    for (const auto& alias : child->get_aliases())
      collect(*child, path + "/" + alias, out);
  }
}

/// `case` patterns "path word" of everything that `keep` picks, joined by '|'.
std::string patterns(const std::vector<command_words>& all,
                     const std::function<bool(const command_words::option&)>& keep) {
  std::vector<std::string> out;
  for (const auto& command : all)
    for (const auto& option : command.options)
      if (keep(option))
        for (const auto& name : option.names)
          out.push_back("'" + command.path + " " + name + "'");
  return join(out, "|");
}

/// Sets `here` to the path of the command that the words before the cursor name; shared by bash and
/// zsh, whose loops differ.
std::string walk(const std::vector<command_words>& all) {
  std::vector<std::string> commands;
  for (const auto& command : all)
    for (const auto& [name, about] : command.commands)
      commands.push_back("'" + command.path + " " + name + "'");
  return "    if [[ -n $skip ]]; then skip=; continue; fi\n"
         "    case \"$here $word\" in\n"
         "      " +
         join(commands, "|") +
         ") here=\"$here/$word\" ;;\n"
         "      " +
         patterns(all, [](const auto& x) { return x.takes_value; }) +
         ") skip=1 ;;\n"
         "    esac\n";
}

std::string value_cases(const std::vector<command_words>& all, const std::string& indent) {
  std::string out;
  for (const auto& command : all)
    for (const auto& option : command.options)
      if (!option.choices.empty())
        for (const auto& name : option.names)
          out += indent + "'" + command.path + " " + name + "') values='" +
                 join(option.choices, " ") + "' ;;\n";
  return out;
}

std::string bash_script(const std::vector<command_words>& all) {
  std::string words;
  for (const auto& command : all) {
    std::vector<std::string> names = command.choices, flags;
    for (const auto& [name, about] : command.commands)
      names.push_back(name);
    for (const auto& option : command.options)
      flags.insert(flags.end(), option.names.begin(), option.names.end());
    words += "    '" + command.path + "') words='" + join(names, " ") + "' flags='" +
             join(flags, " ") + "'" + (command.models ? " models=1" : "") + " ;;\n";
  }
  return "# bash completion of troupe: source <(troupe completion bash)\n"
         "_troupe() {\n"
         "  local here= skip= word words= flags= models= values= i\n"
         "  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}\n"
         "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
         "    word=${COMP_WORDS[i]}\n" +
         walk(all) +
         "  done\n"
         "  if [[ -n $skip ]]; then\n"
         "    case \"$here $previous\" in\n" +
         value_cases(all, "      ") +
         "    esac\n"
         "    if [[ -n $values ]]; then COMPREPLY=($(compgen -W \"$values\" -- \"$current\"))\n"
         "    else COMPREPLY=($(compgen -f -- \"$current\")); fi\n"
         "    return\n"
         "  fi\n"
         "  case \"$here\" in\n" +
         words +
         "  esac\n"
         "  if [[ $current == -* ]]; then COMPREPLY=($(compgen -W \"$flags\" -- \"$current\")); "
         "return; fi\n"
         "  [[ -n $models ]] && words=\"$words $(\"${COMP_WORDS[0]}\" models -q 2>/dev/null)\"\n"
         "  COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
         "}\n"
         "complete -o default -F _troupe troupe\n";
}

/// "name:what it does", with the colons of either escaped, as _describe reads it.
std::string zsh_entry(const std::string& name, const std::string& about) {
  std::string entry;
  for (const char c : name)
    entry += c == ':' ? "\\:" : std::string(1, c);
  return quoted(entry + ":" + about, "'\\''");
}

std::string zsh_script(const std::vector<command_words>& all) {
  std::string words;
  for (const auto& command : all) {
    words += "    '" + command.path + "')\n";
    for (const auto& [name, about] : command.commands)
      words += "      names+=(" + zsh_entry(name, about) + ")\n";
    for (const auto& choice : command.choices)
      words += "      names+=(" + zsh_entry(choice, "") + ")\n";
    for (const auto& option : command.options)
      for (const auto& name : option.names)
        words += "      flags+=(" + zsh_entry(name, option.about) + ")\n";
    words += std::string{command.models ? "      models=1\n" : ""} + "      ;;\n";
  }
  return "#compdef troupe\n"
         "# zsh completion of troupe: troupe completion zsh > a directory of $fpath, as _troupe\n"
         "_troupe() {\n"
         "  local here= skip= word models= values= i\n"
         "  local -a names flags\n"
         "  for ((i = 2; i < CURRENT; i++)); do\n"
         "    word=${words[i]}\n" +
         walk(all) +
         "  done\n"
         "  if [[ -n $skip ]]; then\n"
         "    case \"$here ${words[CURRENT-1]}\" in\n" +
         value_cases(all, "      ") +
         "    esac\n"
         "    if [[ -n $values ]]; then compadd -- ${=values}; else _files; fi\n"
         "    return\n"
         "  fi\n"
         "  case \"$here\" in\n" +
         words +
         "  esac\n"
         "  if [[ ${words[CURRENT]} == -* ]]; then _describe flag flags; return; fi\n"
         "  [[ -n $models ]] && names+=(${(f)\"$(${words[1]} models -q 2>/dev/null)\"})\n"
         "  (( $#names )) && _describe troupe names\n"
         "  _files\n"
         "}\n"
         "if [[ $funcstack[1] == _troupe ]]; then _troupe \"$@\"; else compdef _troupe troupe; "
         "fi\n";
}

std::string fish_script(const std::vector<command_words>& all) {
  std::string commands, taking;
  for (const auto& command : all) {
    for (const auto& [name, about] : command.commands)
      commands += " '" + command.path + " " + name + "'";
    for (const auto& option : command.options)
      for (const auto& name : option.names)
        taking += option.takes_value ? " '" + command.path + " " + name + "'" : "";
  }
  std::string out = "# fish completion of troupe: troupe completion fish | source\n"
                    "function __troupe_at\n"
                    "  set -l here ''\n"
                    "  set -l skip ''\n"
                    "  for word in (commandline -opc)[2..-1]\n"
                    "    if test -n \"$skip\"; set skip ''; continue; end\n"
                    "    switch \"$here $word\"\n"
                    "      case" +
                    commands +
                    "; set here \"$here/$word\"\n"
                    "      case" +
                    taking +
                    "; set skip 1\n"
                    "    end\n"
                    "  end\n"
                    "  test \"$here\" = \"$argv[1]\"\n"
                    "end\n";
  for (const auto& command : all) {
    const std::string start = "complete -c troupe -n \"__troupe_at '" + command.path + "'\" ";
    for (const auto& [name, about] : command.commands)
      out += start + "-f -a " + name + " -d " + quoted(about, "\\'") + "\n";
    if (!command.choices.empty())
      out += start + "-f -a '" + join(command.choices, " ") + "'\n";
    if (command.models)
      out += start + "-a '(troupe models -q 2>/dev/null)'\n";
    for (const auto& option : command.options) {
      std::string names;
      for (const auto& name : option.names)
        names +=
            name.starts_with("--") ? "-l " + name.substr(2) + " " : "-s " + name.substr(1) + " ";
      out += start + names + (option.takes_value ? "-r " : "") +
             (option.choices.empty() ? "" : "-f -a '" + join(option.choices, " ") + "' ") + "-d " +
             quoted(option.about, "\\'") + "\n";
    }
  }
  return out;
}

} // namespace

std::vector<command_words> words_of(const CLI::App& app) {
  std::vector<command_words> all;
  collect(app, "", all);
  return all;
}

std::string completion_script(const CLI::App& app, const std::string& shell) {
  const auto all = words_of(app);
  return shell == "bash" ? bash_script(all) : shell == "zsh" ? zsh_script(all) : fish_script(all);
}

} // namespace troupe::cli
