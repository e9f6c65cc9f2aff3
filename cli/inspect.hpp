#pragma once
#include <string>

/// The commands that ask a running server over its admin API. Each returns an exit code.
namespace troupe::cli {

struct inspect_options {
  std::string url = "http://127.0.0.1:11500";
  bool json = false;
  double watch_seconds = 0; ///< 0 = once
};

int show_models(const inspect_options& options, bool only_loaded);
int show_actors(const inspect_options& options);
int load_model(const inspect_options& options, const std::string& model);
int stop_model(const inspect_options& options, const std::string& model);

} // namespace troupe::cli
