// The command line: words to calls. Everything that does work is behind a call.
#include <filesystem>
#include <iostream>

#include <CLI/CLI.hpp>

#include "cli/completion.hpp"
#include "cli/exit_codes.hpp"
#include "cli/inspect.hpp"
#include "cli/run.hpp"
#include "cli/serve.hpp"
#include "config/keys.hpp"
#include "config/load.hpp"

namespace {

using namespace troupe;
using namespace troupe::cli;

/// What was typed. Settings stay texts here: config/ parses them as it does those of a file.
struct command_line {
  std::string config_file;
  config::flags settings;
  std::vector<std::string> models;
  std::string port_file;
  run_options run;
  inspect_options inspect;
  std::string output = "table", model, shell, file;
  bool no_hub_cache = false, show_origin = false;
};

void setting(CLI::App* app, command_line& typed, const std::string& flag, const std::string& key) {
  const auto* known = config::find_key(key);
  app->add_option_function<std::string>(
      flag, [&typed, key](const std::string& text) { typed.settings.emplace_back(key, text); },
      std::string{known->about});
}

void add_settings(CLI::App* app, command_line& typed) {
  app->add_option("--config", typed.config_file, "troupe.yaml; ./troupe.yaml is read when it is there");
  app->add_flag("--no-hub-cache", typed.no_hub_cache, "do not look into the Hugging Face cache");
  setting(app, typed, "--models-dir", "model_dirs");
  setting(app, typed, "--memory-limit", "memory_limit");
  setting(app, typed, "--threads", "threads");
  setting(app, typed, "--precision", "precision");
  setting(app, typed, "--keep-alive", "keep_alive");
}

caf::expected<config::loaded_settings> load(command_line& typed) {
  std::optional<std::filesystem::path> file;
  std::error_code ignored;
  if (!typed.config_file.empty())
    file = typed.config_file;
  else if (std::filesystem::exists("troupe.yaml", ignored))
    file = "troupe.yaml";
  if (typed.no_hub_cache)
    typed.settings.emplace_back("hub_cache", "off");
  return config::load_settings(file, config::process_environment, typed.settings);
}

int with_settings(command_line& typed, const std::function<int(const config::loaded_settings&)>& then) {
  const auto loaded = load(typed);
  if (loaded)
    return then(*loaded);
  std::cerr << "troupe: " << describe(loaded.error()) << "\n";
  return usage;
}

void add_serve(CLI::App& app, command_line& typed, int& code) {
  auto* serve = app.add_subcommand("serve", "serve models over HTTP");
  serve->add_option("models", typed.models, "directories, or ids of models to serve only");
  add_settings(serve, typed);
  // Host and port apart, as people type them; together they are the setting `listen`.
  auto host = std::make_shared<std::string>();
  auto port = std::make_shared<int>(-1);
  serve->add_option("--host", *host, "address to listen at");
  serve->add_option("--port", *port, "port to listen at; 0 = any")->check(CLI::Range(0, 65535));
  serve->add_option("--port-file", typed.port_file, "file that the port is written to");
  setting(serve, typed, "--role", "role");
  setting(serve, typed, "--join", "cluster.join");
  setting(serve, typed, "--cluster-listen", "cluster.listen");
  setting(serve, typed, "--queue-max", "queue_max");
  setting(serve, typed, "--drain-timeout", "drain_timeout");
  setting(serve, typed, "--log-level", "log.level");
  serve->callback([&typed, &code, host, port] {
    code = with_settings(typed, [&](config::loaded_settings loaded) {
      if (!host->empty())
        loaded.values.listen.host = *host;
      if (*port >= 0)
        loaded.values.listen.port = static_cast<uint16_t>(*port);
      if (loaded.values.role == "worker" && !loaded.values.cluster.join) {
        std::cerr << "troupe: a worker needs --join HOST:PORT, the cluster port of its head\n";
        return usage;
      }
      return cli::serve(loaded.values, typed.models, typed.port_file);
    });
  });
}

void add_run(CLI::App& app, command_line& typed, int& code) {
  auto* run = app.add_subcommand("run", "answer a prompt, or converse, in the terminal");
  auto& to = typed.run;
  run->add_option("model", to.model, "a directory or the id of a model")->required();
  run->add_option("prompt", to.prompt, "without it: standard input, or a conversation");
  add_settings(run, typed);
  run->add_option("--url", to.url, "ask this server instead of loading the model here");
  run->add_option("--system", to.system, "system message");
  run->add_option("--stop", to.stop, "text that ends the answer; may be given several times");
  run->add_option("--temperature", to.temperature, "0 = always the likeliest token");
  run->add_option("--seed", to.seed, "the same seed gives the same answer");
  run->add_option("--max-tokens", to.max_tokens, "length of the answer at most");
  run->add_flag("--raw", to.raw, "continue the prompt as it is, without the chat template");
  run->add_flag("--verbose", to.verbose, "print times on standard error");
  run->callback([&] {
    code = with_settings(typed, [&](const config::loaded_settings& loaded) {
      return cli::run(loaded.values, typed.run);
    });
  });
}

CLI::App* add_inspection(CLI::App& app, command_line& typed, const std::string& name,
                         const std::string& about, std::function<int()> act, int& code) {
  auto* command = app.add_subcommand(name, about);
  command->add_option("--url", typed.inspect.url, "the server")->envname("TROUPE_URL");
  command->add_option("-o,--output", typed.output, "table or json")
      ->check(CLI::IsMember({"table", "json"}));
  command->callback([&typed, &code, act = std::move(act)] {
    typed.inspect.json = typed.output == "json";
    code = act();
  });
  return command;
}

void add_inspections(CLI::App& app, command_line& typed, int& code) {
  auto& to = typed.inspect;
  const auto watched = [&](CLI::App* command) {
    command->add_option("--watch", to.watch_seconds, "again every so many seconds")
        ->expected(0, 1)->default_str("2");
  };
  watched(add_inspection(app, typed, "ps", "loaded models", [&] { return show_models(to, true); }, code));
  watched(add_inspection(app, typed, "models", "all models", [&] { return show_models(to, false); }, code));
  for (const bool load : {true, false})
    add_inspection(app, typed, load ? "load" : "stop", load ? "load a model" : "unload a model",
                   [&typed, load] {
                     return load ? load_model(typed.inspect, typed.model)
                                 : stop_model(typed.inspect, typed.model);
                   }, code)
        ->add_option("model", typed.model, "the model's id")->required();
  auto* actors = app.add_subcommand("actors", "look into a running server");
  actors->require_subcommand(1);
  watched(add_inspection(*actors, typed, "list", "every actor", [&] { return show_actors(to); }, code));
}

int check_config(const std::string& file) {
  const auto problems = config::check_file(file);
  for (const auto& one : problems)
    std::cerr << one << "\n";
  if (problems.empty())
    std::cout << file << " is fine\n";
  return problems.empty() ? ok : usage;
}

int show_config(const config::loaded_settings& loaded, bool origins) {
  for (const auto& key : config::node_keys()) {
    const auto value = key.read(loaded.values);
    const auto origin = loaded.origins.find(std::string{key.path});
    std::cout << key.path << ": " << (value ? config::format_value(key.type, *value) : "null");
    if (origins)
      std::cout << "  # " << (origin == loaded.origins.end() ? "default" : origin->second);
    std::cout << "\n";
  }
  return ok;
}

void add_config(CLI::App& app, command_line& typed, int& code) {
  auto* config = app.add_subcommand("config", "check and show the configuration");
  config->require_subcommand(1);
  auto* check = config->add_subcommand("check", "say what is wrong with a file, and where");
  check->add_option("file", typed.file, "the file")->default_val("troupe.yaml");
  check->callback([&] { code = check_config(typed.file); });
  auto* show = config->add_subcommand("show", "what applies after file, environment and flags");
  add_settings(show, typed);
  show->add_flag("--origin", typed.show_origin, "and where each value came from");
  show->callback([&] {
    code = with_settings(typed, [&](const config::loaded_settings& loaded) {
      return show_config(loaded, typed.show_origin);
    });
  });
  config->add_subcommand("schema", "the JSON Schema of troupe.yaml")->callback([&] {
    std::cout << config::json_schema();
    code = ok;
  });
}

} // namespace

int main(int argc, char** argv) {
  CLI::App app{"Troupe serves many AI models from few devices.", "troupe"};
  app.require_subcommand(1);
  app.set_version_flag("--version", "troupe " TROUPE_VERSION);
  command_line typed;
  int code = ok;
  add_serve(app, typed, code);
  add_run(app, typed, code);
  add_inspections(app, typed, code);
  add_config(app, typed, code);
  app.add_subcommand("version", "print the version")->callback([] {
    std::cout << "troupe " TROUPE_VERSION "\n";
  });
  auto* completion = app.add_subcommand("completion", "a completion script for your shell");
  completion->add_option("shell", typed.shell, "bash, zsh or fish")->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  completion->callback([&] { std::cout << completion_script(app, typed.shell); });
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& why) {
    return app.exit(why) == 0 ? ok : usage;
  }
  return code;
}
