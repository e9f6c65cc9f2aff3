#pragma once
#include <string>
#include <vector>

#include "config/settings.hpp"

namespace troupe::cli {

struct pull_options {
  std::string reference;
  std::string name;
  std::string include;
  std::vector<std::string> mirrors;
};

struct remove_options {
  std::string model; ///< a name, or that of a part: NAME@revision, NAME:TAG, NAME/FILE.gguf
  bool force = false;
};

/// `troupe pull`: fetches a model now; returns the exit code.
int pull_model(const config::settings& settings, const pull_options& options);

/// `troupe rm`: removes a fetched model from the disk; returns the exit code.
int remove_stored(const config::settings& settings, const remove_options& options);

/// `troupe df`: what the fetched models take; returns the exit code.
int show_disk_usage(const config::settings& settings, bool json);

} // namespace troupe::cli
