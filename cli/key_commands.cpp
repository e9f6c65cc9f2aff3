#include "cli/key_commands.hpp"

#include <algorithm>
#include <iostream>
#include <random>

#include <nlohmann/json.hpp>
#include <unistd.h>

#include "base/rfc3339.hpp"
#include "cli/clock_text.hpp"
#include "cli/complain.hpp"
#include "cli/exit_codes.hpp"
#include "cli/state.hpp"
#include "cli/table.hpp"
#include "cli/terminal.hpp"
#include "config/keys.hpp"
#include "storage/errors.hpp"
#include "storage/state/key_store.hpp"

namespace troupe::cli {
namespace {

using json = nlohmann::ordered_json;
using std::chrono::sys_seconds;
using std::chrono::system_clock;

struct new_key {
  std::string text; ///< what its user sends
  storage::stored_key about;
};

/// Random bytes of the operating system.
sha256_digest random_bytes() {
  std::random_device random;
  sha256_digest out{};
  for (size_t i = 0; i < out.size(); i += 4) {
    const auto word = random();
    for (size_t k = 0; k < 4; ++k)
      out[i + k] = static_cast<uint8_t>(word >> (8 * k));
  }
  return out;
}

/// Fails with what is wrong with the words.
caf::expected<new_key> make_key(const key_options& options) {
  const auto wrong = [](const std::string& what) {
    return caf::make_error(storage::errc::bad_reference, what);
  };
  const auto now = std::chrono::floor<std::chrono::seconds>(system_clock::now());
  new_key out{"tr-" + to_hex(random_bytes()), {}};
  out.about.id = "key_" + to_hex(random_bytes()).substr(0, 12);
  out.about.tenant = options.tenant;
  out.about.name = options.name;
  out.about.hash = sha256(out.text);
  out.about.models = options.models;
  out.about.created = now;
  if (options.tenant.empty() != options.admin)
    return wrong("name the tenant whose key it is to be, or give --admin, not both");
  if (options.admin && !options.models.empty())
    return wrong("--models is for tenants: an admin key reaches everything");
  if (options.name.size() > 100 ||
      std::ranges::any_of(options.name, [](unsigned char c) { return c < 0x20 || c == 0x7f; }))
    return wrong("--name has 100 bytes at most, and no control characters");
  for (const auto& model : options.models)
    if (model.empty() || model.size() > 200 || model.find('\n') != std::string::npos)
      return wrong("--models takes names of models, or patterns with * and ?");
  if (options.expires.empty())
    return out;
  const auto end = parse_moment(options.expires, system_clock::now(), false);
  if (!end)
    return wrong("--expires " + options.expires +
                 ": write 24h, 90d, 2027-01-31 or 2027-01-31T12:00:00Z");
  out.about.expires = std::chrono::floor<std::chrono::seconds>(*end);
  if (*out.about.expires <= now)
    return wrong("--expires " + options.expires + " is over already");
  return out;
}

json describe_key(const storage::stored_key& key, const char* state) {
  const auto time = [](const std::optional<sys_seconds>& x) -> json {
    return x ? json(format_rfc3339(*x)) : json(nullptr);
  };
  return {{"id", key.id},
          {"tenant", key.tenant.empty() ? json(nullptr) : json(key.tenant)},
          {"admin", key.tenant.empty()},
          {"name", key.name},
          {"state", state},
          {"models", key.models},
          {"created", format_rfc3339(key.created)},
          {"expires", time(key.expires)},
          {"revoked", time(key.revoked)}};
}

const char* state_of(const storage::stored_key& key) {
  return key.revoked                                          ? "revoked"
         : key.expires && *key.expires <= system_clock::now() ? "expired"
                                                              : "active";
}

/// The lines that make a key known which is kept nowhere.
int print_lines(const new_key& key, bool as_json) {
  const auto& about = key.about;
  const auto hash = "sha256:" + to_hex(about.hash);
  if (as_json) {
    std::cout << json{{"tenant", about.tenant}, {"key", key.text}, {"hash", hash}}.dump(2) << "\n";
    return ok;
  }
  std::string line = "- {hash: \"" + hash + "\"";
  if (!about.name.empty())
    line += ", name: " + config::yaml_text(about.name);
  if (about.expires)
    line += ", expires: \"" + format_rfc3339(*about.expires) + "\"";
  std::cout << key.text << "\n";
  std::cerr << "\nThis key is shown once and stored nowhere. To make it "
            << (about.tenant.empty() ? "one for /admin" : about.tenant + "'s")
            << ", put this into troupe.yaml:\n\n";
  if (about.tenant.empty())
    std::cerr << "admin_keys:\n  " << line << "}\n";
  else
    std::cerr << "tenants:\n  " << config::yaml_text(about.tenant) << ":\n    keys:\n      " << line
              << "}\n";
  return ok;
}

/// Nothing where no server of these settings looks for keys.
caf::expected<std::optional<std::filesystem::path>> key_dir(const config::settings& settings) {
  return keeps_keys(settings) ? state_dir(settings)
                              : caf::expected<std::optional<std::filesystem::path>>{std::nullopt};
}

/// Opens the store for a command that wants keys that are there; complains where there are none.
std::unique_ptr<storage::key_store> open_kept(const config::settings& settings, int& code) {
  const auto dir = key_dir(settings);
  if (!dir) {
    code = complain(describe(dir.error()), usage);
    return nullptr;
  }
  if (!*dir) {
    code = complain("no keys are kept here: " + std::string{settings.state_dir == "off"
                                                                ? "state_dir is false"
                                                                : "no tenant is configured"},
                    failed);
    return nullptr;
  }
  auto store = storage::open_key_store(**dir);
  if (!store) {
    code = complain(describe(store.error()), failed);
    return nullptr;
  }
  return std::move(*store);
}

} // namespace

int print_key(const key_options& options) {
  const auto key = make_key(options);
  if (!key)
    return complain(describe(key.error()), usage);
  if (!options.models.empty())
    return complain("--models is for keys that the server keeps: leave --print out, or say in "
                    "troupe.yaml what the tenant may use",
                    usage);
  return print_lines(*key, options.json);
}

int create_key(const config::settings& settings, const key_options& options) {
  const auto dir = key_dir(settings);
  if (!dir)
    return complain(describe(dir.error()), usage);
  if (!*dir)
    return print_key(options);
  const auto key = make_key(options);
  if (!key)
    return complain(describe(key.error()), usage);
  const auto& about = key->about;
  std::string known;
  for (const auto& one : settings.tenants)
    known += (known.empty() ? "" : ", ") + one.name;
  if (!options.admin && std::ranges::find(settings.tenants, about.tenant,
                                          &config::tenant_settings::name) == settings.tenants.end())
    return complain("there is no tenant '" + about.tenant + "' in the configuration" +
                        (known.empty() ? "" : " (there is " + known + ")") +
                        ": add it there first, or print a key for it with --print",
                    usage);
  auto store = storage::open_key_store(**dir);
  if (!store)
    return complain(describe(store.error()), failed);
  if (const auto why = (*store)->add(about))
    return complain("the key was not kept: " + describe(why), failed);
  if (options.json) {
    auto out = describe_key(about, "active");
    out["key"] = key->text;
    out["hash"] = "sha256:" + to_hex(about.hash);
    std::cout << out.dump(2) << "\n";
    return ok;
  }
  std::cout << key->text << "\n";
  std::cerr << "\nThis key is shown once; its hash is kept in " << (**dir / "keys.db").string()
            << ".\nServers with this state_dir take it within a second"
            << ", and ask everybody for a key from now on.\nTo take it back: troupe keys revoke "
            << about.id << "\n";
  return ok;
}

int list_keys(const config::settings& settings, const key_options& options) {
  int code = ok;
  const auto store = open_kept(settings, code);
  if (!store)
    return code;
  auto all = store->all();
  if (!all)
    return complain(describe(all.error()), failed);
  std::erase_if(
      *all, [&](const auto& x) { return !options.tenant.empty() && x.tenant != options.tenant; });
  if (options.json) {
    json out = json::array();
    for (const auto& one : *all)
      out.push_back(describe_key(one, state_of(one)));
    std::cout << out.dump(2) << "\n";
    return ok;
  }
  const auto now = system_clock::now();
  std::vector<std::vector<std::string>> rows{
      {"ID", "TENANT", "NAME", "STATE", "CREATED", "EXPIRES", "MODELS"}};
  for (const auto& one : *all) {
    std::string models;
    for (const auto& model : one.models)
      models += (models.empty() ? "" : ", ") + model;
    rows.push_back({one.id, one.tenant.empty() ? "(admin)" : one.tenant,
                    one.name.empty() ? "-" : one.name, state_of(one),
                    relative_time(one.created, now),
                    one.expires ? relative_time(*one.expires, now) : "never",
                    models.empty() ? "all" : models});
  }
  std::cout << render_table(rows, colours_wanted(STDOUT_FILENO));
  return ok;
}

int revoke_key(const config::settings& settings, const key_options& options) {
  int code = ok;
  const auto store = open_kept(settings, code);
  if (!store)
    return code;
  const auto now = std::chrono::floor<std::chrono::seconds>(system_clock::now());
  const auto key = store->revoke(options.id, now);
  if (!key && key.error() == storage::errc::not_found)
    return complain(describe(key.error()) + ": `troupe keys list` shows all", not_found);
  if (!key)
    return complain(describe(key.error()), failed);
  if (options.json)
    std::cout << describe_key(*key, state_of(*key)).dump(2) << "\n";
  else
    std::cout << options.id << " is revoked\n";
  return ok;
}

} // namespace troupe::cli
