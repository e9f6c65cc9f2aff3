#include "storage/state/usage_store.hpp"

#include "storage/state/sqlite.hpp"

namespace troupe::storage {

namespace {

constexpr const char* migrations[] = {
    "CREATE TABLE usage (hour INTEGER NOT NULL, tenant TEXT NOT NULL, model TEXT NOT NULL, "
    "requests INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL, "
    "completion_tokens INTEGER NOT NULL, PRIMARY KEY (hour, tenant, model)) STRICT, WITHOUT ROWID",
};

/// Hours are kept as seconds of the Unix epoch, so that other tools can read them.
int64_t seconds_of(hour_point x) {
  return std::chrono::duration_cast<std::chrono::seconds>(x.time_since_epoch()).count();
}

class sqlite_usage_store final : public usage_store {
public:
  explicit sqlite_usage_store(database file) : file_{std::move(file)} {}

  caf::error add(std::span<const usage_row> rows) override {
    auto whole = transaction::begin(file_);
    if (!whole)
      return std::move(whole.error());
    auto insert =
        file_.prepare("INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
                      "requests = requests + excluded.requests, "
                      "prompt_tokens = prompt_tokens + excluded.prompt_tokens, "
                      "cached_tokens = cached_tokens + excluded.cached_tokens, "
                      "completion_tokens = completion_tokens + excluded.completion_tokens");
    if (!insert)
      return std::move(insert.error());
    for (const auto& row : rows) {
      insert->bind(1, seconds_of(row.hour)).bind(2, row.tenant).bind(3, row.model);
      int at = 4;
      for (const auto number :
           {row.requests, row.prompt_tokens, row.cached_tokens, row.completion_tokens})
        insert->bind(at++, static_cast<int64_t>(number));
      if (auto done = insert->step(); !done)
        return std::move(done.error());
    }
    return whole->commit();
  }

  caf::expected<std::vector<usage_row>> since(hour_point from) override {
    return read("SELECT tenant, model, hour, requests, prompt_tokens, cached_tokens, "
                "completion_tokens FROM usage WHERE hour >= ? ORDER BY hour, tenant, model",
                from);
  }

  caf::expected<std::vector<usage_row>> totals(hour_point from) override {
    return read("SELECT tenant, model, min(hour), sum(requests), sum(prompt_tokens), "
                "sum(cached_tokens), sum(completion_tokens) FROM usage WHERE hour >= ? "
                "GROUP BY tenant, model ORDER BY tenant, model",
                from);
  }

private:
  caf::expected<std::vector<usage_row>> read(const std::string& sql, hour_point from) {
    auto asked = file_.prepare(sql);
    if (!asked)
      return std::move(asked.error());
    asked->bind(1, seconds_of(from));
    std::vector<usage_row> out;
    while (true) {
      auto row = asked->step();
      if (!row)
        return std::move(row.error());
      if (!*row)
        return out;
      const auto count = [&](int column) { return static_cast<uint64_t>(asked->number(column)); };
      out.push_back({.tenant = asked->text(0),
                     .model = asked->text(1),
                     .hour = hour_point{std::chrono::floor<std::chrono::hours>(
                         std::chrono::seconds{asked->number(2)})},
                     .requests = count(3),
                     .prompt_tokens = count(4),
                     .cached_tokens = count(5),
                     .completion_tokens = count(6)});
    }
  }

  database file_;
};

} // namespace

caf::expected<std::unique_ptr<usage_store>> open_usage_store(const std::filesystem::path& dir) {
  auto file = database::open(dir / "usage.db");
  if (!file)
    return std::move(file.error());
  if (auto why = file->migrate("the ledger", migrations, std::size(migrations)))
    return why;
  return std::unique_ptr<usage_store>{std::make_unique<sqlite_usage_store>(std::move(*file))};
}

} // namespace troupe::storage
