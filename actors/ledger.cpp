#include "actors/ledger.hpp"

#include <algorithm>
#include <iterator>

#include "actors/errors.hpp"
#include "actors/log.hpp"

namespace troupe::actors {

namespace {

constexpr size_t questions_max = 64;

} // namespace

ledger::ledger(std::unique_ptr<storage::usage_store> to,
               std::shared_ptr<const tenant_registry> tenants)
    : to_{std::move(to)}, tenants_{std::move(tenants)} {}

caf::expected<std::shared_ptr<ledger>>
ledger::start(std::unique_ptr<storage::usage_store> to,
              std::shared_ptr<const tenant_registry> tenants) {
  std::shared_ptr<ledger> out{new ledger{std::move(to), std::move(tenants)}};
  if (auto why = out->read_budgets())
    return why;
  out->thread_ = std::thread{[raw = out.get()] { raw->run(); }};
  return out;
}

ledger::~ledger() {
  {
    const std::lock_guard guard{lock_};
    ending_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable())
    thread_.join();
}

void ledger::totals(storage::hour_point from, std::function<void(caf::expected<rows>)> then) {
  {
    const std::lock_guard guard{lock_};
    if (questions_.size() < questions_max) {
      questions_.push_back([this, from, then] {
        write();
        then(to_->totals(from));
      });
      return wake_.notify_one();
    }
  }
  then(caf::make_error(errc::timed_out, "the ledger is busy: ask again in a moment"));
}

void ledger::restore_budgets() {
  const std::lock_guard guard{lock_};
  questions_.push_back([this] {
    write();
    if (const auto why = read_budgets())
      log_error("what tenants have spent cannot be read: " + describe(why));
  });
  wake_.notify_one();
}

caf::error ledger::read_budgets() {
  const auto now = std::chrono::system_clock::now();
  const auto members = tenants_->all();
  std::optional<wall_time> from;
  for (const auto& one : members)
    if (const auto begin = one->budget_from(now))
      from = from ? std::min(*from, *begin) : *begin;
  if (!from)
    return {};
  const auto read = to_->since(std::chrono::floor<std::chrono::hours>(*from));
  if (!read)
    return read.error();
  for (const auto& one : members) {
    rows own;
    std::ranges::copy_if(*read, std::back_inserter(own),
                         [&](const auto& row) { return row.tenant == one->name(); });
    one->restore(own);
  }
  return {};
}

void ledger::run() {
  std::unique_lock guard{lock_};
  while (!ending_ || !questions_.empty()) {
    wake_.wait_for(guard, interval, [this] { return ending_ || !questions_.empty(); });
    const auto asked = std::exchange(questions_, {});
    guard.unlock();
    for (const auto& one : asked)
      one();
    if (asked.empty())
      write();
    guard.lock();
  }
  guard.unlock();
  write();
}

void ledger::write() {
  rows batch;
  std::vector<std::pair<std::shared_ptr<tenant>, rows>> taken;
  for (const auto& one : tenants_->accounts()) {
    auto some = one->take_unwritten();
    batch.insert(batch.end(), some.begin(), some.end());
    if (!some.empty())
      taken.emplace_back(one, std::move(some));
  }
  if (batch.empty())
    return;
  const auto why = to_->add(batch);
  if (!why) {
    failing_ = false;
    return;
  }
  for (const auto& [who, some] : taken)
    who->put_back(some);
  if (!std::exchange(failing_, true)) // once, not every second
    log_error("the usage of tenants cannot be written and is kept in memory: " + describe(why));
}

} // namespace troupe::actors
