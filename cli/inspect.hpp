#pragma once
#include <chrono>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "cli/http_client.hpp"

/// The commands that ask a running server over its admin API. Each returns an exit code.
namespace troupe::cli {

struct inspect_options {
  std::string url; ///< where the server has /admin
  bool json = false;
  bool quiet = false;       ///< models: names alone, one a line
  double watch_seconds = 0; ///< 0 = once
};

int show_models(const inspect_options& options, bool only_loaded);
int show_actors(const inspect_options& options, bool tree);
/// What was agreed with each; a `name` leaves only that one.
int show_tenants(const inspect_options& options, const std::string& name);
/// What each has used: by the ledger, from `since` on ("24h", "30d", a date or a time; empty = all
/// that there is).
int show_usage(const inspect_options& options, const std::string& name, const std::string& since);
int load_model(const inspect_options& options, const std::string& model);
int stop_model(const inspect_options& options, const std::string& model);

/// Says why the admin API of the server at `url` gave no answer; returns the exit code.
int report_failure(const http_answer& answer, const std::string& url);

using time_point = std::chrono::system_clock::time_point;

/// One line about the host pool, or nothing; `answer` is that of /admin/models.
std::string pool_text(const nlohmann::ordered_json& answer);
/// A line about the memory of each device that has something on it.
std::string devices_text(const nlohmann::ordered_json& answer);
/// `rows` as the admin API lists them -> what people read.
std::string models_text(const nlohmann::ordered_json& rows, bool only_loaded, time_point now,
                        bool colour);
std::string actors_text(const nlohmann::ordered_json& rows, bool colour);
std::string tenants_text(const nlohmann::ordered_json& rows, bool colour);
std::string usage_text(const nlohmann::ordered_json& rows, bool colour);
std::string actor_tree_text(const nlohmann::ordered_json& rows);

} // namespace troupe::cli
