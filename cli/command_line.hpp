#pragma once
#include <memory>
#include <string>
#include <vector>

#include "cli/bench/options.hpp"
#include "cli/inspect.hpp"
#include "cli/key_commands.hpp"
#include "cli/run.hpp"
#include "cli/serve_options.hpp"
#include "cli/simulate.hpp"
#include "cli/store_commands.hpp"
#include "config/load.hpp"

namespace CLI {
class App;
}

namespace troupe::cli {

/// What was typed. Settings stay texts here: config/ parses them as it does those of a file.
struct command_line {
  std::string command; ///< "serve", "config check" ...
  std::string config_file;
  config::flags settings;
  bool no_hub_cache = false;
  serve_options serve;
  std::string host;
  int port = -1;
  run_options run;
  std::vector<std::string> prompt_words;
  pull_options pull;
  remove_options remove;
  inspect_options inspect;
  bench::options bench;
  std::string output = "table";
  std::string model;
  std::string shell;
  std::string file;
  bool show_origin = false;
  simulate_options simulate;
  std::string tenant;
  key_options keys;
  std::string since;
  std::string request; ///< explain
  bool last = false;
};

/// The tree of commands; parsing fills `into`, which must outlive it. What `into` holds before are
/// the defaults.
std::unique_ptr<CLI::App> make_app(command_line& into);

} // namespace troupe::cli
