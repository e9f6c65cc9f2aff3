#include "config/file_reader.hpp"

#include <algorithm>

#include "config/tenant_reader.hpp"

namespace troupe::config {
namespace {

constexpr size_t nodes_max = 100'000;

std::string_view article(yaml_node::type kind) {
  switch (kind) {
  case yaml_node::type::null:
    return "nothing";
  case yaml_node::type::scalar:
    return "a single value";
  case yaml_node::type::sequence:
    return "a list";
  case yaml_node::type::map:
    return "a section";
  }
  return "?";
}

/// Strings that YAML would otherwise take for something else are welcome in quotes; numbers and
/// switches are not, because editors that check the schema refuse them.
bool wants_plain(kind type) { return type == kind::boolean || type == kind::count; }

std::string last_part(std::string_view path) {
  const size_t dot = path.rfind('.');
  return std::string{dot == std::string_view::npos ? path : path.substr(dot + 1)};
}

/// What an unknown key in `prefix` was probably meant to be: a neighbour by spelling, else the same
/// name in another section.
std::string guess(const std::string& name, const std::string& prefix) {
  std::vector<std::string_view> here;
  for (const auto& entry : node_keys())
    if (entry.path.starts_with(prefix) &&
        entry.path.find('.', prefix.size()) == std::string_view::npos)
      here.push_back(entry.path.substr(prefix.size()));
  if (prefix.empty()) {
    const auto sections = section_names();
    here.insert(here.end(), sections.begin(), sections.end());
    here.insert(here.end(), {"models", "tenants", "admin_keys"});
  }
  if (const auto near = closest(name, here); !near.empty())
    return prefix + std::string{near};
  for (const auto& entry : node_keys())
    if (last_part(entry.path) == name)
      return std::string{entry.path};
  return {};
}

std::string unknown(const std::string& path, const std::string& meant, std::string_view others) {
  if (path == "<<" || path.ends_with(".<<"))
    return "merge keys (<<) are not supported: write the settings out";
  return "unknown key '" + path + "'" +
         (meant.empty() ? ": " + std::string{others} : ": did you mean '" + meant + "'?");
}

} // namespace

std::string file_reader::place(position at) const {
  return name_ + ":" + std::to_string(at.line) + ":" + std::to_string(at.column);
}

void file_reader::problem_at(position at, std::string what) {
  into_.problems_.push_back({place(at), std::move(what)});
}

std::string file_reader::resolved(const std::string& path) const {
  const std::filesystem::path home = expand_home(path);
  return (home.is_absolute() ? home : folder_ / home).lexically_normal().string();
}

void file_reader::read(const yaml_document& document) {
  if (document.problem) {
    problem_at(document.problem->at, document.problem->what);
    return;
  }
  const auto& root = *document.root;
  if (root.kind == yaml_node::type::null)
    return;
  if (root.kind != yaml_node::type::map) {
    problem_at(root.at, "the file must consist of 'key: value' lines, but begins with " +
                            std::string{article(root.kind)});
    return;
  }
  node_section(root, "");
}

void file_reader::node_section(const yaml_node& map, const std::string& prefix) {
  for (const auto& entry : map.entries) {
    if (++nodes_ > nodes_max)
      return problem_at(entry.at, "aliases make this file too large: write the values out");
    node_entry(entry, prefix + entry.key);
  }
}

void file_reader::node_entry(const yaml_node::entry& entry, const std::string& path) {
  const yaml_node& node = *entry.node;
  if (path == "models")
    return models(node);
  if (path == "tenants" || path == "admin_keys") {
    tenant_reader reader{
        folder_, [this](position at, std::string what) { problem_at(at, std::move(what)); }};
    if (path == "tenants")
      into_.values_.tenants = reader.tenants(node);
    else
      into_.values_.admin_keys = reader.keys(node, path);
    into_.origins_[path] = place(entry.at);
    return;
  }
  if (const auto* which = find_key(path)) {
    if (assign(*which, node, into_.values_))
      into_.origins_[path] = place(entry.at);
    return;
  }
  const auto sections = section_names();
  if (std::ranges::find(sections, path) == sections.end())
    return problem_at(
        entry.at, unknown(path, guess(entry.key, path.substr(0, path.size() - entry.key.size())),
                          "`troupe config schema` lists all keys"));
  if (node.kind == yaml_node::type::null)
    return; // a section whose keys are all commented out
  if (node.kind != yaml_node::type::map)
    return problem_at(node.at, "'" + path +
                                   "' is a section: put its keys below it, indented, not " +
                                   std::string{article(node.kind)});
  node_section(node, path + ".");
}

bool file_reader::list_items(const yaml_node& node, const std::string& path,
                             std::vector<std::string>& items) {
  if (node.kind != yaml_node::type::sequence) {
    const bool one = node.kind == yaml_node::type::scalar;
    problem_at(node.at, "'" + path + "' is a list" +
                            (one ? ": write [" + node.text + "]"
                                 : ", but here is " + std::string{article(node.kind)}));
    return false;
  }
  for (const auto& item : node.items) {
    if (++nodes_ > nodes_max) {
      problem_at(item->at, "aliases make this file too large: write the values out");
      return false;
    }
    if (item->kind != yaml_node::type::scalar || item->text.empty()) {
      problem_at(item->at,
                 "'" + path + "' is a list of names, but here is " +
                     (item->kind == yaml_node::type::scalar ? "an empty one"
                                                            : std::string{article(item->kind)}));
      return false;
    }
    items.push_back(item->text);
  }
  return true;
}

template <class Owner>
bool file_reader::assign(const key<Owner>& which, const yaml_node& node, Owner& owner) {
  const std::string path{which.path};
  if (is_list(which.type)) {
    if (node.kind == yaml_node::type::null)
      return false; // a list whose items are all commented out
    std::vector<std::string> items;
    if (which.type == kind::references && node.kind == yaml_node::type::scalar)
      items.push_back(node.text);
    else if (!list_items(node, path, items))
      return false;
    if (which.type == kind::paths)
      std::ranges::transform(items, items.begin(), [this](const auto& x) { return resolved(x); });
    which.assign(owner, std::move(items));
    return true;
  }
  if (node.kind == yaml_node::type::null) {
    problem_at(node.at,
               "'" + path + "' has no value: give it one, or remove the key to keep the default");
    return false;
  }
  if (node.kind != yaml_node::type::scalar) {
    problem_at(node.at, "'" + path + "' takes a single value, but here is " +
                            std::string{article(node.kind)});
    return false;
  }
  if (node.quoted && wants_plain(which.type)) {
    problem_at(node.at, "'" + path + "': write " + node.text + " without quotes");
    return false;
  }
  auto parsed = parse_value(which, node.text, true);
  if (!parsed) {
    problem_at(node.at, path + ": " + describe(parsed.error()));
    return false;
  }
  if (which.type == kind::toggle_path)
    if (auto& text = std::get<std::string>(*parsed); text != "on" && text != "off")
      text = resolved(text);
  if (which.type == kind::path)
    if (auto& text = std::get<std::string>(*parsed); !text.empty())
      text = resolved(text);
  which.assign(owner, std::move(*parsed));
  return true;
}

void file_reader::models(const yaml_node& node) {
  if (node.kind == yaml_node::type::null)
    return;
  if (node.kind == yaml_node::type::sequence)
    return problem_at(node.at,
                      "'models' holds settings by model name: list directories under 'model_dirs'");
  if (node.kind != yaml_node::type::map)
    return problem_at(node.at, "'models' is a section of model names, but here is " +
                                   std::string{article(node.kind)});
  for (const auto& entry : node.entries)
    model(entry);
}

void file_reader::model(const yaml_node::entry& entry) {
  const yaml_node& node = *entry.node;
  if (entry.key.empty())
    return problem_at(entry.at, "a model needs a name");
  into_.origins_["models." + entry.key] = place(entry.at);
  model_settings given;
  if (node.kind != yaml_node::type::map && node.kind != yaml_node::type::null)
    return problem_at(node.at, "'models." + entry.key +
                                   "' is a section: put its keys below it, indented, not " +
                                   std::string{article(node.kind)});
  std::vector<std::string_view> names;
  for (const auto& known : model_keys())
    names.push_back(known.path);
  for (const auto& setting : node.entries) {
    if (++nodes_ > nodes_max)
      return problem_at(setting.at, "aliases make this file too large: write the values out");
    const auto* which = find_model_key(setting.key);
    if (!which) {
      problem_at(setting.at,
                 unknown(setting.key, std::string{closest(setting.key, names)},
                         "a model takes keep_alive, pinned, preload, replicas, kv_memory, "
                         "context_max, quantize, kv_type, draft_model, source, aliases"));
      continue;
    }
    if (!assign(*which, *setting.node, given))
      continue;
    into_.origins_["models." + entry.key + "." + setting.key] = place(setting.at);
    if (setting.key == "aliases" && is_glob(entry.key))
      problem_at(setting.at, "'" + entry.key +
                                 "' may match several models, which cannot share an alias: "
                                 "name one model");
    if (setting.key == "source" && is_glob(entry.key))
      problem_at(setting.at,
                 "'" + entry.key + "' may match several models: one model has a source");
  }
  into_.values_.models.emplace_back(entry.key, std::move(given));
}

} // namespace troupe::config
