#include "cli/inspect.hpp"

#include <chrono>
#include <functional>
#include <iostream>
#include <thread>

#include <nlohmann/json.hpp>
#include <unistd.h>

#include "cli/exit_codes.hpp"
#include "cli/http_client.hpp"
#include "cli/table.hpp"
#include "config/units.hpp"

namespace troupe::cli {

namespace {

using json = nlohmann::ordered_json;

int report(const http_answer& answer, const std::string& url) {
  if (answer.status == 0) {
    std::cerr << "troupe: no server answers at " << url << " (" << answer.body
              << "); start one with `troupe serve`, or name another with --url\n";
    return cannot_connect;
  }
  std::cerr << "troupe: " << error_message(answer) << "\n";
  return answer.status == 404 ? not_found : failed;
}

std::string text(const json& row, const char* key) {
  const auto found = row.find(key);
  if (found == row.end() || found->is_null())
    return "-";
  return found->is_string() ? found->get<std::string>() : found->dump();
}

std::string size(const json& row, const char* key) {
  return config::format_size_rounded(row.value(key, uint64_t{0}));
}

std::string when(const json& row, const char* key) {
  const auto written = text(row, key);
  return written == "-" ? written
                        : relative_time(parse_rfc3339(written), std::chrono::system_clock::now());
}

std::string models_table(const json& rows, bool only_loaded) {
  std::vector<std::vector<std::string>> table{
      only_loaded ? std::vector<std::string>{"MODEL", "STATE", "SIZE", "DEVICE", "ACTIVE", "QUEUED", "UNTIL"}
                  : std::vector<std::string>{"MODEL", "STATE", "SIZE", "ARCHITECTURE", "LAST USED"}};
  for (const auto& row : rows) {
    auto state = text(row, "state");
    if (only_loaded && state == "cold")
      continue;
    if (only_loaded)
      table.push_back({text(row, "id"), state, size(row, "resident_bytes"), text(row, "device"),
                       text(row, "active"), text(row, "queued"),
                       row.value("pinned", false) ? "pinned" : when(row, "unload_at")});
    else
      table.push_back({text(row, "id"), state, size(row, "weight_bytes"), text(row, "architecture"),
                       when(row, "last_used")});
  }
  return render_table(table);
}

std::string actors_table(const json& rows) {
  std::vector<std::vector<std::string>> table{
      {"ID", "NAME", "TYPE", "NODE", "STATE", "MESSAGES", "RESTARTS", "DETAIL"}};
  for (const auto& row : rows)
    table.push_back({text(row, "id"), text(row, "name"), text(row, "type"), text(row, "node"),
                     text(row, "state"), text(row, "messages"), text(row, "restarts"),
                     text(row, "detail")});
  return render_table(table);
}

/// Fetches and prints, again and again with --watch.
int show(const inspect_options& options, const std::string& path,
         const std::function<std::string(const json&)>& render) {
  for (;;) {
    const auto answer = http_request(options.url + path, false);
    if (answer.status != 200)
      return report(answer, options.url);
    const auto parsed = json::parse(answer.body, nullptr, false);
    if (!parsed.is_object() || !parsed.contains("data")) {
      std::cerr << "troupe: what answers at " << options.url << " is not troupe\n";
      return failed;
    }
    if (options.watch_seconds > 0 && !options.json && isatty(STDOUT_FILENO))
      std::cout << "\033[H\033[2J";
    std::cout << (options.json ? parsed["data"].dump(2) + "\n" : render(parsed["data"])) << std::flush;
    if (options.watch_seconds <= 0)
      return ok;
    std::this_thread::sleep_for(std::chrono::duration<double>(options.watch_seconds));
  }
}

int act(const inspect_options& options, const std::string& model, const std::string& verb) {
  const auto answer =
      http_request(options.url + "/admin/models/" + url_escape(model) + "/" + verb, true, "{}");
  if (answer.status != 200)
    return report(answer, options.url);
  if (options.json)
    std::cout << answer.body << "\n";
  else
    std::cout << model << (verb == "load" ? " is loaded\n" : " is unloaded\n");
  return ok;
}

} // namespace

int show_models(const inspect_options& options, bool only_loaded) {
  return show(options, "/admin/models",
              [&](const json& rows) { return models_table(rows, only_loaded); });
}
int show_actors(const inspect_options& options) {
  return show(options, "/admin/actors", actors_table);
}
int load_model(const inspect_options& options, const std::string& model) {
  return act(options, model, "load");
}
int stop_model(const inspect_options& options, const std::string& model) {
  return act(options, model, "unload");
}

} // namespace troupe::cli
