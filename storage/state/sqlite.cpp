#include "storage/state/sqlite.hpp"

#include <cerrno>
#include <cstring>
#include <tuple>

#include <fcntl.h>
#include <sqlite3.h>
#include <unistd.h>

#include "storage/errors.hpp"

namespace troupe::storage {

namespace {

/// Another process may hold the file for the length of one small transaction.
constexpr int busy_ms_max = 5000;

errc code_of(int result) {
  switch (result & 0xff) {
  case SQLITE_FULL:
    return errc::no_space;
  case SQLITE_CORRUPT:
  case SQLITE_NOTADB:
    return errc::corrupted;
  case SQLITE_BUSY:
  case SQLITE_LOCKED:
    return errc::unavailable;
  case SQLITE_NOMEM:
    return errc::no_memory;
  default:
    return errc::unreadable;
  }
}

caf::error failed(sqlite3* in, const std::filesystem::path& file, const std::string& doing) {
  const int result = in ? sqlite3_extended_errcode(in) : SQLITE_NOMEM;
  std::string text =
      doing + " in " + file.string() + " failed: " + (in ? sqlite3_errmsg(in) : "no memory");
  if (code_of(result) == errc::corrupted)
    text += ": move the file away (a new one is made), or name another state_dir";
  return caf::make_error(code_of(result), std::move(text));
}

} // namespace

void statement::finalizer::operator()(sqlite3_stmt* x) const { sqlite3_finalize(x); }
void database::closer::operator()(sqlite3* x) const { sqlite3_close_v2(x); }

statement& statement::bind(int at, std::string_view text) {
  sqlite3_bind_text64(raw_.get(), at, text.data(), text.size(), SQLITE_TRANSIENT, SQLITE_UTF8);
  return *this;
}

statement& statement::bind(int at, int64_t number) {
  sqlite3_bind_int64(raw_.get(), at, number);
  return *this;
}

caf::expected<bool> statement::step() {
  const int result = sqlite3_step(raw_.get());
  if (result == SQLITE_ROW)
    return true;
  auto* in = sqlite3_db_handle(raw_.get());
  if (result != SQLITE_DONE) {
    const char* file = sqlite3_db_filename(in, "main");
    auto why = failed(in, file ? file : "", "a statement");
    sqlite3_reset(raw_.get());
    return why;
  }
  sqlite3_reset(raw_.get());
  return false;
}

std::string statement::text(int column) const {
  const auto* bytes = reinterpret_cast<const char*>(sqlite3_column_text(raw_.get(), column));
  return bytes ? std::string(bytes, static_cast<size_t>(sqlite3_column_bytes(raw_.get(), column)))
               : std::string{};
}

int64_t statement::number(int column) const { return sqlite3_column_int64(raw_.get(), column); }

caf::expected<database> database::open(const std::filesystem::path& file) {
  std::error_code failure;
  std::filesystem::create_directories(file.parent_path(), failure);
  // SQLite would make it with the mode that the umask leaves; the files beside it follow it.
  const int made = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (made < 0)
    return caf::make_error(errc::unreadable,
                           "cannot open the state file " + file.string() + ": " +
                               std::strerror(errno) +
                               ": set state_dir to a directory that can be written, or to false");
  ::close(made);
  sqlite3* raw = nullptr;
  database out;
  const int result =
      sqlite3_open_v2(file.c_str(), &raw, SQLITE_OPEN_READWRITE | SQLITE_OPEN_FULLMUTEX, nullptr);
  out.raw_.reset(raw);
  out.file_ = file;
  if (result != SQLITE_OK)
    return failed(raw, file, "opening the state");
  sqlite3_extended_result_codes(raw, 1);
  sqlite3_busy_timeout(raw, busy_ms_max);
  for (const auto* setting :
       {"PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA trusted_schema = OFF"})
    if (auto problem = out.run(setting))
      return problem;
  return out;
}

caf::error database::run(const std::string& sql) {
  if (sqlite3_exec(raw_.get(), sql.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK)
    return failed(raw_.get(), file_, "'" + sql.substr(0, 60) + "'");
  return {};
}

caf::expected<statement> database::prepare(const std::string& sql) {
  sqlite3_stmt* raw = nullptr;
  if (sqlite3_prepare_v2(raw_.get(), sql.c_str(), static_cast<int>(sql.size()), &raw, nullptr) !=
      SQLITE_OK)
    return failed(raw_.get(), file_, "'" + sql.substr(0, 60) + "'");
  return statement{raw};
}

int64_t database::changes() const { return sqlite3_changes64(raw_.get()); }

caf::error database::migrate(std::string_view what, const char* const* migrations, int version) {
  if (auto why = run("BEGIN IMMEDIATE")) // two processes may start at once
    return why;
  auto failed_with = [&](caf::error why) {
    sqlite3_exec(raw_.get(), "ROLLBACK", nullptr, nullptr, nullptr);
    return why;
  };
  auto asked = prepare("PRAGMA user_version");
  if (!asked)
    return failed_with(std::move(asked.error()));
  if (auto row = asked->step(); !row)
    return failed_with(std::move(row.error()));
  const auto found = asked->number(0);
  *asked = statement{nullptr};
  if (found > version)
    return failed_with(caf::make_error(
        errc::unsupported, std::string{what} + " " + file_.string() +
                               " was made by a later version of troupe: use that version, or name "
                               "another state_dir"));
  for (auto at = found; at < version; ++at)
    if (auto why = run(migrations[at]))
      return failed_with(std::move(why));
  if (auto why = run("PRAGMA user_version = " + std::to_string(version)))
    return failed_with(std::move(why));
  return run("COMMIT");
}

caf::expected<transaction> transaction::begin(database& on) {
  if (auto why = on.run("BEGIN IMMEDIATE"))
    return why;
  return transaction{on};
}

transaction::~transaction() {
  if (on_)
    std::ignore = on_->run("ROLLBACK");
}

caf::error transaction::commit() {
  if (auto why = on_->run("COMMIT"))
    return why;
  on_ = nullptr;
  return {};
}

} // namespace troupe::storage
