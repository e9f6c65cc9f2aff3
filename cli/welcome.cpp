#include <algorithm>

#include "cli/addresses.hpp"
#include "cli/serve.hpp"
#include "cli/table.hpp"
#include "config/units.hpp"

namespace troupe::cli {
namespace {

constexpr size_t models_shown = 20;
constexpr size_t notes_shown = 5;

std::string models_text(const storage::catalog& found, bool colour) {
  std::vector<std::vector<std::string>> rows{{"MODEL", "SIZE", "ARCHITECTURE"}};
  for (size_t i = 0; i < std::min(found.models.size(), models_shown); ++i) {
    const auto& model = found.models[i];
    rows.push_back({model.id.text, config::format_size_rounded(model.weight_bytes),
                    model.architecture.empty() ? "-" : model.architecture});
  }
  std::string text = render_table(rows, colour);
  if (found.models.size() > models_shown)
    text += "and " + std::to_string(found.models.size() - models_shown) + " more: troupe models\n";
  return text;
}

std::string notes_text(const storage::catalog& found) {
  std::string text;
  for (size_t i = 0; i < std::min(found.skipped.size(), notes_shown); ++i)
    text += "skipped " + found.skipped[i].where.string() + ": " + found.skipped[i].why + "\n";
  if (found.skipped.size() > notes_shown)
    text += "skipped " + std::to_string(found.skipped.size() - notes_shown) + " more\n";
  return text;
}

/// The model's name inside JSON inside single quotes of a shell.
std::string quoted(const std::string& name) {
  std::string text;
  for (const char c : name)
    text += c == '\'' ? "'\\''" : c == '"' || c == '\\' ? std::string{'\\', c} : std::string(1, c);
  return text;
}

} // namespace

std::string welcome_text(const config::settings& settings, const storage::catalog& found,
                         listening_ports ports, bool colour) {
  const auto url = api_url(settings, ports.api);
  const auto count = found.models.size();
  std::string text = "troupe " TROUPE_VERSION " serves " + std::to_string(count) + " model" +
                     (count == 1 ? "" : "s") + " at " + url + "/v1 (role " + settings.role + ")\n";
  if (settings.admin_listen)
    text += "/admin is at " + admin_url(settings, ports.admin) + "\n";
  if (ports.cluster != 0)
    text += "workers join with: troupe serve --role worker --join " +
            to_string(host_port{settings.cluster.listen
                                    ? config::reachable_host(settings.cluster.listen->host)
                                    : "HOST",
                                ports.cluster}) +
            "\n";
  text += "\n";
  text += count == 0 ? "No model was found. Name a directory: troupe serve ~/models\n"
                     : models_text(found, colour);
  text += notes_text(found);
  if (count > 0)
    text += "\ncurl " + url + "/v1/chat/completions -H 'Content-Type: application/json' -d '" +
            R"({"model": ")" + quoted(found.models.front().id.text) +
            R"(", "messages": [{"role": "user", "content": "Hello!"}]}')" + "\n";
  return text;
}

} // namespace troupe::cli
