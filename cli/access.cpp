#include "cli/access.hpp"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>

#include "base/sha256.hpp"
#include "cli/complain.hpp"
#include "cli/exit_codes.hpp"
#include "config/errors.hpp"

namespace troupe::cli {
namespace {

caf::error missing(const std::string& where, const std::string& what) {
  return caf::make_error(config::errc::invalid_value, where + ": " + what);
}

std::string trimmed(std::string text) {
  const auto blank = " \t\r\n";
  text.erase(text.find_last_not_of(blank) + 1);
  return text.erase(0, text.find_first_not_of(blank));
}

caf::expected<actors::access_key> key_of(const config::access_key_settings& from,
                                         const std::string& where) {
  actors::access_key out;
  out.name = from.name;
  if (from.expires)
    out.expires = *from.expires;
  if (!from.hash.empty()) {
    const auto digest = digest_from_hex(std::string_view{from.hash}.substr(7));
    if (!digest)
      return missing(where, "the hash is not one of SHA-256");
    out.hash = *digest;
    return out;
  }
  std::string key;
  if (!from.env.empty()) {
    const char* held = std::getenv(from.env.c_str());
    key = trimmed(held ? held : "");
    if (key.empty())
      return missing(where, "the environment variable " + from.env + " is not set");
    out.name = out.name.empty() ? from.env : out.name;
  } else {
    std::ifstream file{from.file, std::ios::binary};
    key = trimmed({std::istreambuf_iterator<char>{file}, {}});
    if (key.empty())
      return missing(where, "the file " + from.file + " cannot be read or is empty");
    out.name = out.name.empty() ? from.file : out.name;
  }
  out.hash = sha256(key);
  return out;
}

caf::error read_keys(const std::vector<config::access_key_settings>& from, const std::string& path,
                     std::vector<actors::access_key>& to) {
  for (size_t i = 0; i < from.size(); ++i) {
    auto key = key_of(from[i], path + "[" + std::to_string(i) + "]");
    if (!key)
      return std::move(key.error());
    to.push_back(std::move(*key));
  }
  return {};
}

/// Unset when there are none: all may be used.
std::function<bool(const std::string&)> only_models(const std::vector<std::string>& patterns) {
  if (patterns.empty())
    return {};
  return [patterns](const std::string& model) {
    return std::ranges::any_of(patterns,
                               [&](const auto& one) { return config::glob_match(one, model); });
  };
}

policies::fair_priority priority_of(const std::string& text) {
  return text == "interactive" ? policies::fair_priority::interactive
         : text == "batch"     ? policies::fair_priority::batch
                               : policies::fair_priority::standard;
}

policies::budget_terms budget_of(const config::budget_settings& from) {
  using kind = policies::budget_period::kind;
  policies::budget_terms out;
  out.limit = static_cast<double>(from.tokens);
  out.soft = from.soft_percent / 100.0;
  out.period.what = from.per == "day"    ? kind::day
                    : from.per == "week" ? kind::week
                    : from.hours > 0     ? kind::hours
                                         : kind::month;
  out.period.hours = from.hours;
  out.prices = {from.input, from.cached, from.output};
  return out;
}

} // namespace

caf::expected<agreed_terms> terms_of(const config::settings& settings) {
  agreed_terms out;
  for (const auto& from : settings.tenants) {
    actors::tenant_terms terms{.name = from.name};
    if (auto why = read_keys(from.keys, "tenants." + from.name + ".keys", terms.keys))
      return why;
    terms.may_use = only_models(from.models);
    terms.weight = from.weight;
    terms.priority = priority_of(from.priority);
    terms.limits = {from.rpm, from.tpm, from.concurrency};
    terms.caps = {.queue = from.queue,
                  .warm_models = from.warm_models,
                  .memory_bytes = from.vram,
                  .cold_starts_per_hour = from.cold_starts_per_hour};
    terms.max_tokens = static_cast<uint32_t>(std::min<uint64_t>(from.max_tokens, UINT32_MAX));
    terms.budget = budget_of(from.budget);
    terms.enforce = from.enforce;
    out.tenants.push_back(std::move(terms));
  }
  if (auto why = read_keys(settings.admin_keys, "admin_keys", out.admin_keys))
    return why;
  return out;
}

actors::issued_key issued_key_of(const storage::stored_key& from) {
  actors::issued_key out{from.id, from.tenant, {from.hash, from.name, from.expires}, {}, false};
  out.may_use = only_models(from.models);
  out.revoked = from.revoked.has_value();
  return out;
}

int hash_key() {
  const auto key = trimmed({std::istreambuf_iterator<char>{std::cin}, {}});
  if (key.empty())
    return complain("no key on standard input", usage);
  std::cout << "sha256:" << to_hex(sha256(key)) << "\n";
  return ok;
}

} // namespace troupe::cli
