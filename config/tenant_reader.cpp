#include "config/tenant_reader.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>

#include "base/rfc3339.hpp"
#include "config/keys.hpp"
#include "config/layers.hpp"
#include "config/units.hpp"

namespace troupe::config {
namespace {

constexpr size_t nodes_max = 100'000;

bool is_hash(const std::string& text) {
  return text.size() == 71 && text.starts_with("sha256:") &&
         std::all_of(text.begin() + 7, text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

/// "2027-01-01" (its beginning, UTC), or a time as RFC 3339 has it.
std::optional<std::chrono::sys_seconds> parse_time(const std::string& text) {
  const auto parsed = parse_rfc3339(text.size() == 10 ? text + "T00:00:00Z" : text);
  if (!parsed)
    return std::nullopt;
  return std::chrono::floor<std::chrono::seconds>(*parsed);
}

std::string number_text(double x) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, x).ptr;
  return {text, end};
}

} // namespace

std::optional<uint64_t> parse_amount(std::string_view text) {
  double factor = 1;
  if (!text.empty()) {
    const auto unit = std::string_view{"kMG"}.find(text.back());
    if (unit != std::string_view::npos) {
      factor = std::pow(1000, unit + 1);
      text.remove_suffix(1);
    }
  }
  double number = 0;
  const auto* end = text.data() + text.size();
  const auto [stop, why] = std::from_chars(text.data(), end, number, std::chars_format::fixed);
  number *= factor;
  if (why != std::errc{} || stop != end || !(number >= 1 && number <= 1e15) ||
      number != std::floor(number))
    return std::nullopt;
  return static_cast<uint64_t>(number);
}

const std::string* tenant_reader::text(const yaml_node& node, const std::string& path) {
  if (node.kind == yaml_node::type::scalar && !node.text.empty())
    return &node.text;
  problem_(node.at, "'" + path + "' takes a single value");
  return nullptr;
}

void tenant_reader::amount(const yaml_node& node, const std::string& path, uint64_t& to) {
  const auto* given = text(node, path);
  if (!given)
    return;
  if (const auto parsed = parse_amount(*given))
    to = *parsed;
  else
    problem_(node.at, path + ": '" + *given +
                          "' is no amount: write for example 600, 200k or 1.5M; leave it out for "
                          "no limit");
}

void tenant_reader::memory(const yaml_node& node, const std::string& path, uint64_t& to) {
  const auto* given = text(node, path);
  if (!given)
    return;
  const auto parsed = parse_size(*given);
  if (parsed && *parsed > 0)
    to = *parsed;
  else
    problem_(node.at, path + ": '" + *given +
                          "' is no size: write for example 24GiB; leave it out for no limit");
}

void tenant_reader::choice(const yaml_node& node, const std::string& path,
                           const std::vector<std::string_view>& known, std::string& to) {
  const auto* given = text(node, path);
  if (!given)
    return;
  if (std::ranges::find(known, *given) != known.end())
    return void(to = *given);
  std::string all;
  for (const auto x : known)
    all += (all.empty() ? "" : " or ") + std::string{x};
  problem_(node.at, path + ": '" + *given + "' is not known here: write " + all);
}

void tenant_reader::section(const yaml_node& node, const std::string& path,
                            const std::vector<field>& fields) {
  if (node.kind == yaml_node::type::null)
    return;
  if (node.kind != yaml_node::type::map)
    return problem_(node.at, "'" + path + "' is a section: put its keys below it, indented");
  std::vector<std::string_view> names;
  for (const auto& x : fields)
    names.push_back(x.first);
  for (const auto& entry : node.entries) {
    if (++nodes_ > nodes_max)
      return problem_(entry.at, "aliases make this file too large: write the values out");
    const auto found = std::ranges::find(fields, entry.key, &field::first);
    if (found != fields.end()) {
      found->second(*entry.node);
      continue;
    }
    std::string all;
    for (const auto name : names)
      all += (all.empty() ? "" : ", ") + std::string{name};
    const auto near = closest(entry.key, names);
    problem_(entry.at,
             "unknown key '" + path + "." + entry.key + "': " +
                 (near.empty() ? "it takes " + all : "did you mean '" + std::string{near} + "'?"));
  }
}

access_key_settings tenant_reader::key(const yaml_node& node, const std::string& path) {
  access_key_settings out;
  const auto take = [&](const char* name, std::string& to) {
    return field{name, [this, path, name, &to](const yaml_node& x) {
                   if (const auto* given = text(x, path + "." + name))
                     to = *given;
                 }};
  };
  const auto before = node.at;
  section(node, path,
          {take("hash", out.hash),
           take("env", out.env),
           take("file", out.file),
           take("name", out.name),
           {"expires", [&](const yaml_node& x) {
              const auto* given = text(x, path + ".expires");
              if (given && !(out.expires = parse_time(*given)))
                problem_(x.at, path + ".expires: '" + *given +
                                   "' is no time: write 2027-01-01 or 2027-01-01T12:00:00Z (UTC)");
            }}});
  if (!out.hash.empty() + !out.env.empty() + !out.file.empty() != 1)
    problem_(before, "'" + path + "' takes one of hash, env and file");
  if (!out.hash.empty() && !is_hash(out.hash))
    problem_(before, path + ".hash: write sha256: and 64 lower-case hex digits; `troupe keys "
                            "create` makes a key and prints its hash");
  if (!out.file.empty()) {
    const std::filesystem::path home = expand_home(out.file);
    out.file = (home.is_absolute() ? home : folder_ / home).lexically_normal().string();
  }
  return out;
}

std::vector<access_key_settings> tenant_reader::keys(const yaml_node& node,
                                                     const std::string& path) {
  std::vector<access_key_settings> out;
  if (node.kind == yaml_node::type::null)
    return out;
  if (node.kind != yaml_node::type::sequence) {
    problem_(node.at, "'" + path + "' is a list: write [{env: ACME_KEY}]");
    return out;
  }
  for (size_t i = 0; i < node.items.size() && ++nodes_ <= nodes_max; ++i)
    out.push_back(key(*node.items[i], path + "[" + std::to_string(i) + "]"));
  return out;
}

tenant_settings tenant_reader::tenant(const yaml_node::entry& entry) {
  tenant_settings out{.name = entry.key};
  const auto path = "tenants." + entry.key;
  std::string mode = "enforce";
  const auto limit = [&](const char* name, uint64_t& to) {
    return field{name, [this, path, name, &to](const yaml_node& x) {
                   amount(x, path + ".limits." + name, to);
                 }};
  };
  const auto models = [&](const yaml_node& node) {
    if (node.kind != yaml_node::type::sequence || node.items.empty())
      return problem_(node.at,
                      "'" + path + ".models' is a list: write [\"qwen*\", \"phi-3-mini\"]");
    for (const auto& item : node.items)
      if (const auto* given = text(*item, path + ".models"))
        out.models.push_back(*given);
  };
  const auto weight = [&](const yaml_node& node) {
    const auto* given = text(node, path + ".weight");
    if (!given)
      return;
    const auto* end = given->data() + given->size();
    double x = 0;
    const auto [stop, why] = std::from_chars(given->data(), end, x);
    if (why == std::errc{} && stop == end && x >= 0.001 && x <= 1e6)
      out.weight = x;
    else
      problem_(node.at, path + ".weight: '" + *given + "' is no weight: write 0.001 to 1000000");
  };
  section(*entry.node, path,
          {{"keys", [&](const yaml_node& x) { out.keys = keys(x, path + ".keys"); }},
           {"models", models},
           {"weight", weight},
           {"priority",
            [&](const yaml_node& x) {
              choice(x, path + ".priority", {"interactive", "standard", "batch"}, out.priority);
            }},
           {"limits",
            [&](const yaml_node& x) {
              section(x, path + ".limits",
                      {limit("rpm", out.rpm),
                       limit("tpm", out.tpm),
                       limit("concurrency", out.concurrency),
                       limit("max_tokens", out.max_tokens),
                       limit("queue", out.queue),
                       limit("warm_models", out.warm_models),
                       limit("cold_starts_per_hour", out.cold_starts_per_hour),
                       {"vram",
                        [&](const yaml_node& y) { memory(y, path + ".limits.vram", out.vram); }}});
            }},
           {"budget", [&](const yaml_node& x) { out.budget = budget(x, path + ".budget"); }},
           {"mode", [&](const yaml_node& x) {
              choice(x, path + ".mode", {"enforce", "shadow"}, mode);
            }}});
  out.enforce = mode == "enforce";
  return out;
}

std::vector<tenant_settings> tenant_reader::tenants(const yaml_node& node) {
  std::vector<tenant_settings> out;
  if (node.kind == yaml_node::type::null)
    return out;
  if (node.kind != yaml_node::type::map) {
    problem_(node.at, "'tenants' is a section of names");
    return out;
  }
  for (const auto& entry : node.entries) {
    const auto harmless = [](unsigned char c) { return c > 0x20 && c < 0x7f && c != '"'; };
    if (entry.key.empty() || entry.key.size() > 64 || !std::ranges::all_of(entry.key, harmless))
      problem_(entry.at, "a tenant's name has 1 to 64 visible characters without spaces");
    else
      out.push_back(tenant(entry));
  }
  return out;
}

std::vector<std::string> check_tenants(const std::vector<tenant_settings>& tenants) {
  std::vector<std::string> out;
  std::map<std::string, std::string> owners;
  for (const auto& tenant : tenants)
    for (const auto& x : tenant.keys)
      if (!x.hash.empty() && !owners.emplace(x.hash, tenant.name).second)
        out.push_back("tenants." + tenant.name + ".keys: the same hash already stands at '" +
                      owners[x.hash] + "'");
  return out;
}

namespace {

std::string show_key(const access_key_settings& x) {
  std::string out = "{" + (!x.hash.empty()  ? "hash: \"" + x.hash + "\""
                           : !x.env.empty() ? "env: " + yaml_text(x.env)
                                            : "file: " + yaml_text(x.file));
  if (!x.name.empty())
    out += ", name: " + yaml_text(x.name);
  if (x.expires)
    out += ", expires: \"" + format_rfc3339(*x.expires) + "\"";
  return out + "}";
}

} // namespace

std::string show_tenants(const std::vector<tenant_settings>& tenants,
                         const std::vector<access_key_settings>& admin_keys) {
  std::string out;
  if (!admin_keys.empty())
    out += "admin_keys:\n";
  for (const auto& x : admin_keys)
    out += "  - " + show_key(x) + "\n";
  if (!tenants.empty())
    out += "tenants:\n";
  for (const auto& x : tenants) {
    out += "  " + yaml_text(x.name) + ":\n";
    if (!x.keys.empty())
      out += "    keys:\n";
    for (const auto& one : x.keys)
      out += "      - " + show_key(one) + "\n";
    if (!x.models.empty())
      out += "    models: " + format_value(kind::names, x.models) + "\n";
    out += "    weight: " + number_text(x.weight) + "\n    priority: " + x.priority + "\n";
    std::string limits;
    for (const auto& [name, value] : {std::pair{"rpm", x.rpm},
                                      {"tpm", x.tpm},
                                      {"concurrency", x.concurrency},
                                      {"max_tokens", x.max_tokens},
                                      {"queue", x.queue},
                                      {"warm_models", x.warm_models},
                                      {"cold_starts_per_hour", x.cold_starts_per_hour}})
      if (value > 0)
        limits += (limits.empty() ? "" : ", ") + std::string{name} + ": " + std::to_string(value);
    if (x.vram > 0)
      limits += (limits.empty() ? "" : ", ") + std::string{"vram: "} + format_size(x.vram);
    if (!limits.empty())
      out += "    limits: {" + limits + "}\n";
    out += show_budget(x.budget);
    out += std::string{"    mode: "} + (x.enforce ? "enforce" : "shadow") + "\n";
  }
  return out;
}

} // namespace troupe::config
