#include "cli/inspect.hpp"

#include <algorithm>
#include <functional>
#include <iostream>
#include <thread>

#include <nlohmann/json.hpp>
#include <unistd.h>

#include "base/rfc3339.hpp"
#include "cli/clock_text.hpp"
#include "cli/complain.hpp"
#include "cli/exit_codes.hpp"
#include "cli/http_client.hpp"
#include "cli/terminal.hpp"

namespace troupe::cli {

int report_failure(const http_answer& answer, const std::string& url) {
  if (answer.status == 0)
    return complain(no_server_text(url, answer), cannot_connect);
  if (error_code(answer) == "unknown_url")
    return complain("the server at " + url +
                        " has no /admin there: name the address of its admin_listen with --url or "
                        "TROUPE_ADMIN_URL",
                    failed);
  if (answer.status == 401 || answer.status == 403)
    return complain(error_message(answer) + " (the variable TROUPE_ADMIN_KEY holds what is sent)",
                    failed);
  if (answer.status == 404)
    return complain(error_message(answer) + ": `troupe models` lists all", not_found);
  return complain(error_message(answer), failed);
}

namespace {

using json = nlohmann::ordered_json;

/// Fetches and prints, again and again with --watch. An `only` leaves the rows whose `field` it is.
int show(const inspect_options& options, const std::string& path, const char* field,
         const std::string& only, const std::function<std::string(const json&)>& render) {
  const auto url = normal_url(options.url);
  const bool redraw = options.watch_seconds > 0 && !options.json && isatty(STDOUT_FILENO);
  while (true) {
    const auto answer = admin_request("GET", url + path);
    if (answer.status != 200)
      return report_failure(answer, url);
    auto parsed = json::parse(answer.body, nullptr, false);
    if (!parsed.is_object() || !parsed.contains("data") || !parsed["data"].is_array())
      return complain("what answers at " + url + " is not troupe", failed);
    if (!only.empty())
      std::erase_if(parsed["data"].get_ref<json::array_t&>(), [&](const json& row) {
        const auto at = row.find(field);
        return at == row.end() || *at != only;
      });
    const auto text = options.json ? parsed["data"].dump(2) + "\n" : render(parsed);
    std::cout << (redraw ? "\033[H\033[2J" : "") << text << std::flush;
    if (options.watch_seconds <= 0 || !std::cout)
      return ok;
    std::this_thread::sleep_for(std::chrono::duration<double>(options.watch_seconds));
  }
}

int show(const inspect_options& options, const std::string& path,
         const std::function<std::string(const json&)>& render) {
  return show(options, path, "", "", render);
}

std::string names(const json& rows) {
  std::string text;
  for (const auto& row : rows)
    if (row.is_object() && row.contains("id") && row["id"].is_string())
      text += row["id"].get<std::string>() + "\n";
  return text;
}

int act(const inspect_options& options, const std::string& model, const std::string& verb) {
  const auto url = normal_url(options.url);
  const auto answer =
      admin_request("POST", url + "/admin/models/" + url_escape(model) + "/" + verb, "{}");
  if (answer.status != 200)
    return report_failure(answer, url);
  if (options.json)
    std::cout << answer.body << (answer.body.ends_with('\n') ? "" : "\n");
  else
    std::cout << model << (verb == "load" ? " is loaded\n" : " is unloaded\n");
  return ok;
}

} // namespace

int show_models(const inspect_options& options, bool only_loaded) {
  const bool colour = colours_wanted(STDOUT_FILENO);
  return show(options, "/admin/models", [&](const json& answer) -> std::string {
    if (options.quiet)
      return names(answer["data"]);
    return models_text(answer["data"], only_loaded, std::chrono::system_clock::now(), colour) +
           (only_loaded ? devices_text(answer) + pool_text(answer) : std::string{});
  });
}

int show_actors(const inspect_options& options, bool tree) {
  const bool colour = colours_wanted(STDOUT_FILENO);
  return show(options, "/admin/actors", [&](const json& answer) {
    return tree ? actor_tree_text(answer["data"]) : actors_text(answer["data"], colour);
  });
}

int show_tenants(const inspect_options& options, const std::string& name) {
  const bool colour = colours_wanted(STDOUT_FILENO);
  return show(options, "/admin/tenants", "name", name,
              [&](const json& answer) { return tenants_text(answer["data"], colour); });
}

int show_usage(const inspect_options& options, const std::string& name, const std::string& since) {
  const bool colour = colours_wanted(STDOUT_FILENO);
  std::string path = "/admin/usage";
  if (!since.empty()) {
    const auto from = parse_moment(since, std::chrono::system_clock::now(), true);
    if (!from)
      return complain("--since " + since + ": write 24h, 30d, 2026-01-31 or 2026-01-31T12:00:00Z",
                      usage);
    path += "?since=" + url_escape(format_rfc3339(*from));
  }
  return show(options, path, "tenant", name,
              [&](const json& answer) { return usage_text(answer["data"], colour); });
}

int load_model(const inspect_options& options, const std::string& model) {
  return act(options, model, "load");
}
int stop_model(const inspect_options& options, const std::string& model) {
  return act(options, model, "unload");
}

} // namespace troupe::cli
