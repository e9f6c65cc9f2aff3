#include "config/layers.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <set>

#include <unistd.h>

#include "config/file_reader.hpp"
#include "config/keys.hpp"
#include "config/tenant_reader.hpp"

namespace troupe::config {
namespace {

/// Variables that begin with TROUPE_ and are not settings of a node.
constexpr std::array<std::string_view, 10> other_variables{
    "TROUPE_URL",  "TROUPE_API_KEY",      "TROUPE_ADMIN_URL",  "TROUPE_ADMIN_KEY", "TROUPE_CONFIG",
    "TROUPE_JOBS", "TROUPE_SKIP_INSTALL", "TROUPE_SOURCE_DIR", "TROUPE_BINARY",    "TROUPE_BUILD"};

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  for (size_t start = 0; start <= text.size();) {
    const size_t end = std::min(text.find(separator, start), text.size());
    if (end > start)
      parts.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  return parts;
}

} // namespace

std::string to_string(const problem& x) { return x.where + ": " + x.what; }

std::string expand_home(const std::string& path) {
  const char* home = std::getenv("HOME");
  if (home && (path == "~" || path.starts_with("~/")))
    return home + path.substr(1);
  return path;
}

std::map<std::string, std::string> troupe_environment() {
  std::map<std::string, std::string> found;
  for (char** at = environ; at && *at; ++at) {
    const std::string_view line{*at};
    const size_t equals = line.find('=');
    if (line.starts_with("TROUPE_") && equals != std::string_view::npos)
      found.emplace(line.substr(0, equals), line.substr(equals + 1));
  }
  return found;
}

void layers::file(const std::string& text, const std::string& name,
                  const std::filesystem::path& folder) {
  file_reader{*this, name, folder}.read(read_yaml(text));
}

void layers::file(const std::filesystem::path& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    problems_.push_back({path.string(), "is a directory: name the configuration file in it"});
    return;
  }
  std::ifstream input{path, std::ios::binary};
  if (!input) {
    problems_.push_back({path.string(), std::string{"cannot be opened: "} + std::strerror(errno)});
    return;
  }
  // One byte over the limit is enough to say that it is too large, whatever the file is.
  std::string text((1u << 20) + 1, '\0');
  input.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(input.gcount()));
  file(text, path.string(), path.parent_path());
}

void layers::environment(const std::map<std::string, std::string>& variables) {
  std::set<std::string> known(other_variables.begin(), other_variables.end());
  for (const auto& entry : node_keys()) {
    const std::string name = environment_name(entry.path);
    known.insert(name);
    auto found = variables.find(name);
    if (found == variables.end())
      continue;
    if (is_list(entry.type))
      flag(name, entry.path, split(found->second, ','));
    else
      flag(name, entry.path, found->second);
  }
  const std::vector<std::string_view> names(known.begin(), known.end());
  for (const auto& [name, text] : variables) {
    if (known.contains(name) || !name.starts_with("TROUPE_"))
      continue;
    std::vector<std::string_view> paths;
    for (const auto& entry : node_keys())
      paths.push_back(entry.path);
    const auto near = closest(name.substr(7), paths); // which ignores case
    notes_.push_back({name, "is set but means nothing here" +
                                (near.empty() ? std::string{}
                                              : ": did you mean " + environment_name(near) + "?")});
  }
}

void layers::flag(std::string_view flag, std::string_view path, const std::string& text) {
  const auto* which = find_key(path);
  if (is_list(which->type))
    return this->flag(flag, path, split(text, ','));
  auto parsed = parse_value(*which, text, false);
  if (!parsed) {
    problems_.push_back({std::string{flag}, describe(parsed.error())});
    return;
  }
  if (which->type == kind::toggle_path || which->type == kind::path)
    std::get<std::string>(*parsed) = expand_home(std::get<std::string>(*parsed));
  which->assign(values_, std::move(*parsed));
  origins_[std::string{path}] = flag;
}

void layers::flag(std::string_view flag, std::string_view path, std::vector<std::string> items) {
  std::ranges::transform(items, items.begin(), expand_home);
  find_key(path)->assign(values_, std::move(items));
  origins_[std::string{path}] = flag;
}

std::string layers::origin(std::string_view path) const {
  auto found = origins_.find(path);
  return found == origins_.end() ? "default" : found->second;
}

void layers::check() {
  const auto complain = [this](std::string_view path, std::string what) {
    problems_.push_back({origin(path), std::move(what)});
  };
  const auto& v = values_;
  if (v.role == "worker" && !v.cluster.join)
    complain("role", "a worker needs cluster.join (--join HOST:PORT): the head's cluster address");
  if (v.role == "worker" && v.cluster.listen)
    complain("cluster.listen", "a worker does not listen: remove cluster.listen");
  if (v.role != "worker" && v.cluster.join)
    complain("cluster.join", "only a worker joins: set role to worker (--role worker)");
  if (v.role == "head" && !v.cluster.listen)
    complain("role",
             "a head needs cluster.listen (--cluster-listen HOST:PORT): where its workers join");
  if (v.cluster.join && v.cluster.join->port == 0)
    complain("cluster.join", "names port 0: write the port that the head listens on");
  if (v.admin_listen && *v.admin_listen == v.listen && v.listen.port != 0)
    complain("admin_listen", "is the address of listen too: name another one, or leave it out to "
                             "serve /admin there");
  if (v.admin_listen && v.admin_keys.empty() && !is_loopback(v.admin_listen->host))
    complain("admin_listen", "others can reach " + to_string(*v.admin_listen) +
                                 ": set admin_keys, or listen at 127.0.0.1");
  for (const auto& [name, files] : {std::pair{"tls", &v.tls}, {"admin_tls", &v.admin_tls}})
    if (files->cert_file.empty() != files->key_file.empty())
      complain(std::string{name} + (files->cert_file.empty() ? ".key_file" : ".cert_file"),
               std::string{name} + " takes both cert_file and key_file");
  if (!v.admin_tls.cert_file.empty() && !v.admin_listen)
    complain("admin_tls.cert_file", "is for admin_listen, which is not set: `tls` is for listen");
  for (auto& what : check_tenants(v.tenants))
    complain("tenants", std::move(what));
  if (v.state_dir == "off")
    for (const auto& tenant : v.tenants)
      if (tenant.budget.tokens > 0)
        complain("state_dir", "the budget of tenant '" + tenant.name +
                                  "' must outlive the server: name a directory for it");
  std::map<std::string, std::string> owners;
  for (const auto& [name, given] : v.models)
    if (given.aliases)
      for (const auto& alias : *given.aliases) {
        auto [first, fresh] = owners.emplace(alias, name);
        if (!fresh || alias == name)
          complain("models." + name + ".aliases", "'" + alias + "' is already a name of '" +
                                                      first->second + "': aliases must be unique");
      }
}

std::string show(const settings& values, const std::map<std::string, std::string>* origins) {
  std::string text, section;
  const auto line = [&](std::string content, const std::string& path) {
    if (origins) {
      const auto found = origins->find(path);
      content.resize(std::max<size_t>(content.size() + 1, 44), ' ');
      content += "# " + (found == origins->end() ? "default" : found->second);
    }
    text += content + "\n";
  };
  for (const auto& entry : node_keys()) {
    const auto held = entry.read(values);
    const size_t dot = entry.path.find('.');
    const std::string here{dot == std::string_view::npos ? "" : entry.path.substr(0, dot)};
    const std::string name{dot == std::string_view::npos ? entry.path : entry.path.substr(dot + 1)};
    if (!held)
      continue;
    if (here != section && !here.empty())
      text += here + ":\n";
    section = here;
    line((here.empty() ? "" : "  ") + name + ": " + format_value(entry.type, *held),
         std::string{entry.path});
  }
  if (!values.models.empty())
    text += "models:\n";
  for (const auto& [name, given] : values.models) {
    text += "  " + yaml_text(name) + ":\n";
    for (const auto& entry : model_keys())
      if (const auto held = entry.read(given))
        line("    " + std::string{entry.path} + ": " + format_value(entry.type, *held),
             "models." + name + "." + std::string{entry.path});
  }
  return text + show_tenants(values.tenants, values.admin_keys);
}

} // namespace troupe::config
