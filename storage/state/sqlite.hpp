#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.hpp"

struct sqlite3;
struct sqlite3_stmt;

/// The one door to SQLite. One thread at a time.
namespace troupe::storage {

/// A prepared statement. Lives shorter than its database.
class statement {
public:
  explicit statement(sqlite3_stmt* raw) : raw_{raw} {}
  /// Parameters and columns count from 1 and 0, as SQLite has it.
  statement& bind(int at, std::string_view text);
  statement& bind(int at, int64_t number);
  /// True while there is a row; after the last one the statement can be bound and run again.
  caf::expected<bool> step();
  std::string text(int column) const;
  int64_t number(int column) const;

private:
  struct finalizer {
    void operator()(sqlite3_stmt* x) const;
  };
  std::unique_ptr<sqlite3_stmt, finalizer> raw_;
};

/// An open database file, in WAL mode: several processes may use it at once, one that is killed
/// leaves it whole, and what was committed stays, even after a loss of power.
class database {
public:
  /// Makes the file, readable by its owner alone, and its directory if they are missing.
  static caf::expected<database> open(const std::filesystem::path& file);
  caf::error run(const std::string& sql);
  caf::expected<statement> prepare(const std::string& sql);
  /// Rows that the last statement changed.
  int64_t changes() const;
  /// Fails if the file was made by a later version; else brings it up to `version`, from which
  /// `migrations[i]` leads to version i + 1.
  caf::error migrate(std::string_view what, const char* const* migrations, int version);

private:
  struct closer {
    void operator()(sqlite3* x) const;
  };
  std::filesystem::path file_;
  std::unique_ptr<sqlite3, closer> raw_;
};

/// A transaction: undone unless committed.
class transaction {
public:
  static caf::expected<transaction> begin(database& on);
  transaction(transaction&& other) noexcept : on_{std::exchange(other.on_, nullptr)} {}
  ~transaction();
  caf::error commit();

private:
  explicit transaction(database& on) : on_{&on} {}
  database* on_;
};

} // namespace troupe::storage
