#pragma once
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <thread>

#include "storage/store/pull.hpp"

namespace troupe::storage {

/// Fetches models on threads of its own, for those who must not block. Any thread may call.
class model_fetcher {
public:
  explicit model_fetcher(pull_setup how) : how_{std::move(how)} {}
  ~model_fetcher() { stop(); }
  model_fetcher(const model_fetcher&) = delete;
  model_fetcher& operator=(const model_fetcher&) = delete;

  /// Begins to fetch; both functions are called on a thread of this object, `done` last and once.
  /// What is complete on this machine is used without asking the source.
  void fetch(pull_request what, pull_observer observer,
             std::function<void(caf::expected<pulled_model>)> done);

  /// As `find_pulled`.
  std::filesystem::path find(const pull_request& what) const { return find_pulled(what, how_); }

  /// Ends what is under way, and waits for that; what has come stays for the next attempt. What is
  /// begun afterwards fails with `cancelled`.
  void stop();

private:
  struct job {
    std::jthread thread;
    bool over = false;
  };

  const pull_setup how_;
  std::mutex mutex_;
  std::list<std::shared_ptr<job>> jobs_;
  bool stopped_ = false;
};

} // namespace troupe::storage
