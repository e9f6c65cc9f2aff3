#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "actors/tenant_registry.hpp"
#include "storage/state/usage_store.hpp"

namespace troupe::actors {

/// Writes down what tenants use, once a second and when it ends, on a thread of its own: nobody who
/// uses tokens ever waits for the disk. What cannot be written is kept and tried again. Calls from
/// any thread.
class ledger {
public:
  using rows = std::vector<storage::usage_row>;
  /// Begins with the budgets of these tenants as the ledger has them.
  static caf::expected<std::shared_ptr<ledger>>
  start(std::unique_ptr<storage::usage_store> to, std::shared_ptr<const tenant_registry> tenants);
  ~ledger(); ///< writes what is left
  ledger(const ledger&) = delete;

  /// Writes what there is, then tells what was used from `from` on, by tenant and model. `then`
  /// runs on the ledger's thread; asking too much at once fails.
  void totals(storage::hour_point from, std::function<void(caf::expected<rows>)> then);
  /// After tenants have changed: what is spent of their budgets, by the ledger.
  void restore_budgets();
  static constexpr auto interval = std::chrono::seconds{1};

private:
  ledger(std::unique_ptr<storage::usage_store> to, std::shared_ptr<const tenant_registry> tenants);
  caf::error read_budgets();
  void run();
  void write();

  const std::unique_ptr<storage::usage_store> to_;
  const std::shared_ptr<const tenant_registry> tenants_;
  bool failing_ = false; ///< of the thread
  std::mutex lock_;      ///< guards what follows
  std::condition_variable wake_;
  std::deque<std::function<void()>> questions_;
  bool ending_ = false;
  std::thread thread_;
};

} // namespace troupe::actors
