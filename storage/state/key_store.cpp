#include "storage/state/key_store.hpp"

#include <functional>

#include "storage/errors.hpp"
#include "storage/state/sqlite.hpp"

namespace troupe::storage {

namespace {

using std::chrono::sys_seconds;

/// Times are seconds of the Unix epoch, 0 = never; models stand one a line.
constexpr const char* migrations[] = {
    "CREATE TABLE keys (id TEXT PRIMARY KEY, tenant TEXT NOT NULL, name TEXT NOT NULL, "
    "hash TEXT NOT NULL UNIQUE, models TEXT NOT NULL, created INTEGER NOT NULL, "
    "expires INTEGER NOT NULL, revoked INTEGER NOT NULL) STRICT",
};

constexpr const char* columns = "id, tenant, name, hash, models, created, expires, revoked";

int64_t number_of(std::optional<sys_seconds> x) { return x ? x->time_since_epoch().count() : 0; }

std::optional<sys_seconds> time_of(int64_t number) {
  return number == 0 ? std::nullopt : std::optional{sys_seconds{std::chrono::seconds{number}}};
}

std::string joined(const std::vector<std::string>& lines) {
  std::string out;
  for (const auto& one : lines)
    out += one + "\n";
  return out;
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> out;
  for (size_t at = 0, end; (end = text.find('\n', at)) != std::string::npos; at = end + 1)
    out.push_back(text.substr(at, end - at));
  return out;
}

caf::expected<stored_key> key_of(const statement& row) {
  stored_key out;
  out.id = row.text(0);
  out.tenant = row.text(1);
  out.name = row.text(2);
  const auto hash = digest_from_hex(row.text(3));
  if (!hash)
    return caf::make_error(errc::corrupted, "the key " + out.id +
                                                " has no SHA-256 hash in keys.db: put a copy of "
                                                "the file in its place, or move it away");
  out.hash = *hash;
  out.models = split(row.text(4));
  out.created = time_of(row.number(5)).value_or(sys_seconds{});
  out.expires = time_of(row.number(6));
  out.revoked = time_of(row.number(7));
  return out;
}

class sqlite_key_store final : public key_store {
public:
  explicit sqlite_key_store(database file) : file_{std::move(file)} {}

  caf::error add(const stored_key& key) override {
    auto whole = transaction::begin(file_);
    if (!whole)
      return std::move(whole.error());
    const auto ago = (key.created - memory).time_since_epoch().count();
    if (auto why = change("DELETE FROM keys WHERE (revoked > 0 AND revoked < ?1) OR "
                          "(expires > 0 AND expires < ?1)",
                          [&](statement& x) { x.bind(1, ago); }))
      return why;
    if (auto why = room_for(key))
      return why;
    if (auto why = change("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [&](statement& x) {
          x.bind(1, key.id).bind(2, key.tenant).bind(3, key.name).bind(4, to_hex(key.hash));
          x.bind(5, joined(key.models)).bind(6, number_of(key.created));
          x.bind(7, number_of(key.expires)).bind(8, number_of(key.revoked));
        }))
      return why;
    return whole->commit();
  }

  caf::expected<stored_key> revoke(const std::string& id, sys_seconds at) override {
    if (auto why = change("UPDATE keys SET revoked = ? WHERE id = ? AND revoked = 0",
                          [&](statement& x) { x.bind(1, number_of(at)).bind(2, id); }))
      return why;
    auto asked = file_.prepare(std::string{"SELECT "} + columns + " FROM keys WHERE id = ?");
    if (!asked)
      return std::move(asked.error());
    asked->bind(1, id);
    const auto row = asked->step();
    if (!row)
      return row.error();
    if (!*row)
      return caf::make_error(errc::not_found, "there is no key " + id);
    return key_of(*asked);
  }

  caf::expected<std::vector<stored_key>> all() override {
    auto asked =
        file_.prepare(std::string{"SELECT "} + columns + " FROM keys ORDER BY created, rowid");
    if (!asked)
      return std::move(asked.error());
    std::vector<stored_key> out;
    while (true) {
      const auto row = asked->step();
      if (!row)
        return row.error();
      if (!*row)
        return out;
      auto key = key_of(*asked);
      if (!key)
        return std::move(key.error());
      out.push_back(std::move(*key));
    }
  }

  caf::expected<int64_t> version() override { return number("PRAGMA data_version"); }

private:
  caf::expected<int64_t> number(const std::string& sql) {
    auto asked = file_.prepare(sql);
    if (!asked)
      return std::move(asked.error());
    if (const auto row = asked->step(); !row)
      return row.error();
    return asked->number(0);
  }

  caf::error change(const char* sql, const std::function<void(statement&)>& bind) {
    auto prepared = file_.prepare(sql);
    if (!prepared)
      return std::move(prepared.error());
    bind(*prepared);
    const auto done = prepared->step();
    return done ? caf::error{} : done.error();
  }

  caf::error room_for(const stored_key& key) {
    const auto count = number("SELECT count(*) FROM keys");
    if (!count)
      return count.error();
    if (*count >= static_cast<int64_t>(keys_max))
      return caf::make_error(errc::no_space,
                             "there are " + std::to_string(*count) +
                                 " keys, as many as are kept: those that are revoked or expired "
                                 "are forgotten after 30 days");
    auto asked = file_.prepare("SELECT count(*) FROM keys WHERE id = ? OR hash = ?");
    if (!asked)
      return std::move(asked.error());
    asked->bind(1, key.id).bind(2, to_hex(key.hash));
    if (const auto row = asked->step(); !row)
      return row.error();
    if (asked->number(0) > 0)
      return caf::make_error(errc::inconsistent, "the key " + key.id + " is there already");
    return {};
  }

  database file_;
};

} // namespace

caf::expected<std::unique_ptr<key_store>> open_key_store(const std::filesystem::path& dir) {
  auto file = database::open(dir / "keys.db");
  if (!file)
    return std::move(file.error());
  if (auto why = file->migrate("the file of keys", migrations, std::size(migrations)))
    return why;
  return std::unique_ptr<key_store>{std::make_unique<sqlite_key_store>(std::move(*file))};
}

} // namespace troupe::storage
