// The only main: words in, exit code out. Everything that does work is behind a call.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <optional>
#include <string_view>

#include <malloc.h>

#include <CLI/CLI.hpp>

#include "cli/access.hpp"
#include "cli/addresses.hpp"
#include "cli/bench/bench.hpp"
#include "cli/command_line.hpp"
#include "cli/complain.hpp"
#include "cli/completion.hpp"
#include "cli/devices.hpp"
#include "cli/exit_codes.hpp"
#include "cli/explain.hpp"
#include "cli/hidden_secrets.hpp"
#include "cli/inspect.hpp"
#include "cli/logging.hpp"
#include "cli/run.hpp"
#include "cli/serve.hpp"
#include "cli/simulate.hpp"
#include "cli/store_commands.hpp"
#include "cli/usage_error.hpp"
#include "config/layers.hpp"
#include "config/load.hpp"

namespace {

using namespace troupe;
using cli::command_line;

std::optional<std::filesystem::path> config_file(const command_line& typed) {
  std::error_code ignored;
  if (!typed.config_file.empty())
    return typed.config_file;
  if (std::filesystem::exists("troupe.yaml", ignored))
    return "troupe.yaml";
  return std::nullopt;
}

/// `instead` stands for the configuration file.
caf::expected<config::loaded_settings> load(const command_line& typed,
                                            const config::document* instead = nullptr) {
  auto flags = typed.settings;
  if (typed.no_hub_cache)
    flags.push_back({"--no-hub-cache", "hub_cache", {"off"}});
  const auto variables = config::troupe_environment();
  auto loaded = instead ? config::load_settings(*instead, variables, flags)
                        : config::load_settings(config_file(typed), variables, flags);
  if (loaded && !typed.host.empty()) {
    loaded->values.listen.host = typed.host;
    loaded->origins["listen"] = "--host";
  }
  if (loaded && typed.port >= 0) {
    loaded->values.listen.port = static_cast<uint16_t>(typed.port);
    loaded->origins["listen"] = "--port";
  }
  return loaded;
}

int with_settings(command_line& typed) {
  const auto loaded = load(typed);
  if (!loaded)
    return cli::complain(describe(loaded.error()), cli::usage);
  const auto& settings = loaded->values;
  for (const auto& note : loaded->notes)
    std::cerr << "troupe: " << note << "\n";
  if (typed.command == "config show") {
    std::cout << config::show(cli::without_secrets(settings),
                              typed.show_origin ? &loaded->origins : nullptr);
    return cli::ok;
  }
  // Somebody who talks to a model wants to hear of trouble only, unless asked for.
  const bool chosen = loaded->origins.contains("log.level");
  cli::start_logging(typed.command == "run" && !chosen ? "warn" : settings.log.level,
                     settings.log.format);
  if (typed.command == "keys create")
    return cli::create_key(settings, typed.keys);
  if (typed.command == "keys list")
    return cli::list_keys(settings, typed.keys);
  if (typed.command == "keys revoke")
    return cli::revoke_key(settings, typed.keys);
  if (typed.command == "pull")
    return cli::pull_model(settings, typed.pull);
  if (typed.command == "rm")
    return cli::remove_stored(settings, typed.remove);
  if (typed.command == "df")
    return cli::show_disk_usage(settings, typed.output == "json");
  if (typed.command == "serve")
    return cli::serve(settings,
                      {config_file(typed),
                       [&typed](const config::document* given) { return load(typed, given); }},
                      typed.serve);
  if (!typed.prompt_words.empty()) {
    typed.run.prompt = typed.prompt_words.front();
    for (size_t i = 1; i < typed.prompt_words.size(); ++i)
      *typed.run.prompt += " " + typed.prompt_words[i];
  }
  return cli::run(settings, typed.run);
}

int check_config(const std::string& given) {
  const std::string file = given.empty() ? "troupe.yaml" : given;
  const auto problems = config::check_file(file);
  for (const auto& one : problems)
    std::cerr << one << "\n";
  if (problems.empty())
    std::cout << file << " is fine\n";
  return problems.empty() ? cli::ok : cli::usage;
}

int print_version(bool json) {
  if (json)
    std::cout << R"({"name": "troupe", "version": ")" TROUPE_VERSION
                 R"(", "platform": "linux-x86_64"})"
              << "\n";
  else
    std::cout << "troupe " TROUPE_VERSION " (linux-x86_64)\n";
  return cli::ok;
}

/// Where a server has /admin, for the commands that ask it.
std::string find_server(const command_line& typed) {
  if (!typed.inspect.url.empty())
    return typed.inspect.url;
  for (const auto* name : {"TROUPE_ADMIN_URL", "TROUPE_URL"})
    if (const char* url = std::getenv(name); url && *url)
      return url;
  // What is wrong with a configuration is said where it matters.
  const auto loaded = config_file(typed) ? load(typed) : config::loaded_settings{};
  const auto url = loaded ? cli::admin_url(loaded->values) : std::string{};
  return url.empty() ? cli::default_server : url;
}

/// The commands that ask a running server; nothing for others.
std::optional<int> inspect(command_line& typed) {
  const auto& name = typed.command;
  const auto asked = [&](std::initializer_list<std::string_view> names) {
    const bool is = std::ranges::find(names, name) != names.end();
    if (is)
      typed.inspect.url = find_server(typed);
    return is;
  };
  if (asked({"ps", "models"}))
    return cli::show_models(typed.inspect, name == "ps");
  if (asked({"actors list", "actors tree"}))
    return cli::show_actors(typed.inspect, name == "actors tree");
  if (asked({"explain"}))
    return cli::explain_request(typed.inspect, typed.request, typed.last);
  if (asked({"load"}))
    return cli::load_model(typed.inspect, typed.model);
  if (asked({"stop"}))
    return cli::stop_model(typed.inspect, typed.model);
  if (asked({"tenants list", "tenants show"}))
    return cli::show_tenants(typed.inspect, typed.tenant);
  if (asked({"tenants usage"}))
    return cli::show_usage(typed.inspect, typed.tenant, typed.since);
  return std::nullopt;
}

int dispatch(command_line& typed, const CLI::App& app) {
  typed.inspect.json = typed.output == "json";
  const auto& name = typed.command;
  if (const auto code = inspect(typed))
    return *code;
  if (name == "bench")
    return cli::bench::run(typed.bench);
  typed.keys.json = typed.inspect.json;
  if (name == "keys create" && typed.keys.print_only)
    return cli::print_key(typed.keys);
  if (name == "keys hash")
    return cli::hash_key();
  if (name == "simulate fairness") {
    typed.simulate.json = typed.inspect.json;
    return cli::simulate_fairness(typed.simulate);
  }
  if (name == "config check")
    return check_config(typed.file);
  if (name == "devices")
    return cli::show_devices(typed.inspect.json);
  if (name == "version")
    return print_version(typed.inspect.json);
  if (name == "config schema")
    std::cout << config::json_schema();
  else if (name == "completion")
    std::cout << cli::completion_script(app, typed.shell);
  else
    return with_settings(typed);
  return cli::ok;
}

} // namespace

int main(int argc, char** argv) {
  // What a model takes goes back to the system when it is unloaded. Left to itself, glibc keeps
  // blocks of up to 32 MiB for later, once some were freed, and small ones between them pin them.
  ::mallopt(M_MMAP_THRESHOLD, 256 << 10);
  command_line typed;
  if (const char* url = std::getenv("TROUPE_URL"); url && *url)
    typed.run.url = url;
  const auto app = cli::make_app(typed);
  try {
    app->parse(argc, argv);
  } catch (const CLI::ParseError& why) {
    if (why.get_exit_code() == 0) // --help, --version
      return app->exit(why);
    std::cerr << cli::usage_error(*app, why);
    return cli::usage;
  }
  return dispatch(typed, *app);
}
