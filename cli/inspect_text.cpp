// What the admin API says, laid out for people. Any JSON is fine: what is missing becomes '-'.
#include <algorithm>
#include <cstdint>
#include <map>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/rfc3339.hpp"
#include "cli/clock_text.hpp"
#include "cli/inspect.hpp"
#include "cli/table.hpp"
#include "config/units.hpp"

namespace troupe::cli {
namespace {

using json = nlohmann::ordered_json;
using table = std::vector<std::vector<std::string>>;

std::string text(const json& row, const char* key) {
  const auto found = row.find(key);
  if (found == row.end() || found->is_null())
    return "-";
  const auto written = found->is_string() ? found->get<std::string>() : found->dump();
  return written.empty() ? "-" : written;
}

uint64_t number(const json& row, const char* key) {
  const auto found = row.find(key);
  return found != row.end() && found->is_number()
             ? static_cast<uint64_t>(std::max(found->get<double>(), 0.0))
             : 0;
}

std::string size(const json& row, const char* key) {
  const auto bytes = number(row, key);
  return bytes == 0 ? "-" : config::format_size_rounded(bytes);
}

std::string count(const json& row, const char* key) {
  const auto value = number(row, key);
  return value == 0 ? "-" : std::to_string(value);
}

std::string when(const json& row, const char* key, time_point now) {
  const auto time = parse_rfc3339(text(row, key));
  return time ? relative_time(*time, now) : "-";
}

std::string until(const json& row, time_point now) {
  if (const auto pinned = row.find("pinned"); pinned != row.end() && *pinned == true)
    return "pinned";
  const auto whole = number(row, "weight_bytes");
  if (text(row, "state") == "loading" && whole > 0)
    return std::to_string(number(row, "loaded_bytes") * 100 / whole) + "% loaded";
  if (text(row, "state") == "failed")
    return text(row, "error");
  const auto time = when(row, "unload_at", now);
  return time == "-" && text(row, "state") == "ready" && number(row, "active") == 0 ? "for ever"
                                                                                    : time;
}

std::string age(const json& row) {
  const auto found = row.find("age_seconds");
  return found != row.end() && found->is_number() ? elapsed_text(found->get<double>()) : "-";
}

/// Every node numbers its actors by itself.
using actor_key = std::pair<std::string, uint64_t>;
const actor_key no_parent{"", 0};

void add_branch(const json& rows, const std::multimap<actor_key, size_t>& children,
                const actor_key& parent, const std::string& indent, std::vector<bool>& shown,
                std::string& out) {
  const auto [first, last] = children.equal_range(parent);
  for (auto at = first; at != last; ++at) {
    const auto& row = rows[at->second];
    if (shown[at->second])
      continue; // a cycle in what the server says
    shown[at->second] = true;
    const bool root = parent == no_parent;
    const bool final = std::next(at) == last;
    out += root ? "" : indent.substr(1) + (final ? "`- " : "|- ");
    out += text(row, "name") + " (" + text(row, "id") + ") " + text(row, "state");
    if (const auto detail = text(row, "detail"); detail != "-")
      out += "  " + detail;
    if (number(row, "restarts") > 0)
      out += "  restarts " + count(row, "restarts");
    out += "\n";
    if (indent.size() < 200)
      add_branch(rows, children, {text(row, "node"), number(row, "id")},
                 root ? std::string{" "} : indent + (final ? "   " : "|  "), shown, out);
  }
}

/// How much of it is spent.
std::string budget(const json& row) {
  const auto found = row.find("budget");
  if (found == row.end() || !found->is_object() || number(*found, "limit") == 0)
    return "-";
  const bool warn = found->value("past_soft", false);
  return std::to_string(number(*found, "spent") * 100 / number(*found, "limit")) + "% of " +
         std::to_string(number(*found, "limit")) + (warn ? ", past its soft limit" : "");
}

/// Those that there are, as the configuration writes them.
std::string limits_of(const json& row) {
  std::string out;
  const auto limits = row.value("limits", json::object());
  for (const auto& [name, value] : limits.items()) {
    if (!value.is_number_integer() || value <= 0)
      continue;
    const auto amount = value.get<uint64_t>();
    out += (out.empty() ? "" : ", ") + name + ": " +
           (name == "vram" ? config::format_size(amount) : std::to_string(amount));
  }
  return out.empty() ? "-" : out;
}

} // namespace

std::string pool_text(const json& answer) {
  const auto pool = answer.find("pool");
  if (pool == answer.end() || number(*pool, "held_bytes") == 0)
    return "";
  return "pool: " + size(*pool, "held_bytes") + " of " + size(*pool, "size_bytes") +
         " hold weights, " +
         (number(*pool, "leased_bytes") == 0 ? "none" : size(*pool, "leased_bytes")) +
         " of loaded models" +
         (number(*pool, "pinned_bytes") == 0
              ? ""
              : ", " + size(*pool, "pinned_bytes") + " pinned for devices") +
         "\n";
}

std::string devices_text(const json& answer) {
  std::string out;
  const auto devices = answer.find("devices");
  if (devices == answer.end())
    return out;
  for (const auto& row : *devices) {
    if (!row.is_object() || number(row, "weights_bytes") == 0)
      continue;
    const auto used = number(row, "weights_bytes") + number(row, "workspace_bytes");
    const auto limit = number(row, "limit_bytes");
    out += text(row, "device") + ": weights " + size(row, "weights_bytes") + ", workspace " +
           size(row, "workspace_bytes") + ", free " +
           config::format_size_rounded(limit - std::min(limit, used)) + "; KV " +
           (number(row, "kv_bytes") == 0 ? "none" : size(row, "kv_bytes")) + " of " +
           size(row, "kv_memory_bytes") + "\n";
  }
  return out;
}

std::string models_text(const json& rows, bool only_loaded, time_point now, bool colour) {
  table lines{only_loaded ? std::vector<std::string>{"MODEL", "STATE", "SIZE", "KV", "DEVICE",
                                                     "CONTEXT", "ACTIVE", "QUEUED", "UNTIL"}
                          : std::vector<std::string>{"MODEL", "STATE", "SIZE", "ARCHITECTURE",
                                                     "REQUESTS", "LAST USED"}};
  for (const auto& row : rows) {
    const auto state = text(row, "state");
    if (!row.is_object() || (only_loaded && state == "cold" && number(row, "queued") == 0))
      continue;
    if (only_loaded)
      lines.push_back({text(row, "id"), state, size(row, "resident_bytes"), size(row, "kv_bytes"),
                       text(row, "device"), count(row, "context_length"), text(row, "active"),
                       text(row, "queued"), until(row, now)});
    else
      lines.push_back({text(row, "id"), state, size(row, "weight_bytes"), text(row, "architecture"),
                       text(row, "requests"), when(row, "last_used", now)});
  }
  return render_table(lines, colour);
}

std::string actors_text(const json& rows, bool colour) {
  table lines{{"ID", "NAME", "TYPE", "NODE", "STATE", "MESSAGES", "RESTARTS", "AGE", "DETAIL"}};
  for (const auto& row : rows)
    if (row.is_object())
      lines.push_back({text(row, "id"), text(row, "name"), text(row, "type"), text(row, "node"),
                       text(row, "state"), text(row, "messages"), text(row, "restarts"), age(row),
                       text(row, "detail")});
  return render_table(lines, colour);
}

std::string tenants_text(const json& rows, bool colour) {
  table out{
      {"TENANT", "WEIGHT", "PRIORITY", "MODE", "KEYS", "LIMITS", "BUDGET", "RUNNING", "REFUSED"}};
  for (const auto& row : rows) {
    if (!row.is_object())
      continue;
    const auto keys = row.value("keys", json::array());
    out.push_back({text(row, "name"), text(row, "weight"), text(row, "priority"), text(row, "mode"),
                   std::to_string(keys.size()), limits_of(row), budget(row), text(row, "running"),
                   text(row, "refused")});
  }
  return render_table(out, colour);
}

std::string usage_text(const json& rows, bool colour) {
  table out{{"TENANT", "MODEL", "REQUESTS", "PROMPT", "CACHED", "COMPLETION"}};
  uint64_t sums[4] = {};
  static constexpr const char* fields[] = {"requests", "prompt_tokens", "cached_tokens",
                                           "completion_tokens"};
  for (const auto& row : rows) {
    if (!row.is_object())
      continue;
    std::vector<std::string> line{text(row, "tenant"), text(row, "model")};
    for (size_t i = 0; i < 4; ++i) {
      sums[i] += number(row, fields[i]);
      line.push_back(text(row, fields[i]));
    }
    out.push_back(std::move(line));
  }
  if (out.size() > 2) {
    out.push_back({"total", "-"});
    for (const auto sum : sums)
      out.back().push_back(std::to_string(sum));
  }
  return render_table(out, colour);
}

std::string actor_tree_text(const json& rows) {
  std::multimap<actor_key, size_t> children;
  std::map<actor_key, size_t> known;
  for (size_t i = 0; i < rows.size(); ++i)
    if (rows[i].is_object())
      known.emplace(actor_key{text(rows[i], "node"), number(rows[i], "id")}, i);
  for (const auto& [key, i] : known) {
    const actor_key parent{key.first, number(rows[i], "parent")};
    children.emplace(known.contains(parent) && parent != key ? parent : no_parent, i);
  }
  std::string out;
  std::vector<bool> shown(rows.size(), false);
  add_branch(rows, children, no_parent, "", shown, out);
  return out;
}

} // namespace troupe::cli
