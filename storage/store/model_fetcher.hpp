#pragma once
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "storage/store/pull.hpp"

namespace troupe::storage {

/// Fetches models on threads of its own, for those who must not block. Any thread may call.
class model_fetcher {
public:
  explicit model_fetcher(pull_setup how) : how_{std::move(how)} {}
  ~model_fetcher() { stop(); }
  model_fetcher(const model_fetcher&) = delete;
  model_fetcher& operator=(const model_fetcher&) = delete;

  using ending = std::function<void(caf::expected<pulled_model>)>;

  /// Begins to fetch; the functions are called on threads of this object, `done` last and once.
  /// What is complete on this machine is used without asking the source. Who wants what is being
  /// fetched already takes part in that; `early` may then be called before this returns.
  void fetch(pull_request what, pull_observer observer, ending done, early_opening early = {});

  /// What a fetch other than of a whole model does; blocks.
  using errand = std::function<caf::expected<pulled_model>(const pull_setup&, const pull_observer&,
                                                           const std::stop_token&)>;
  /// Does `work` on a thread of this object, and tells as `fetch` does.
  void run(errand work, pull_observer observer, ending done);

  /// What opens it, as `find_pulled` says.
  std::filesystem::path find(const pull_request& what) const {
    return find_pulled(what, how_).path;
  }

  /// Ends what is under way, and waits for that; what has come stays for the next attempt. What is
  /// begun afterwards fails with `cancelled`.
  void stop();

private:
  struct member {
    pull_observer observer;
    ending done;
    early_opening early;
  };
  struct job {
    std::optional<pull_request> what; ///< nothing = an errand of its own
    errand work;
    std::jthread thread;
    // Under the mutex:
    std::vector<member> members;
    std::shared_ptr<const arriving_model> arriving; ///< once it can be opened
    bool over = false;
  };
  bool join(const pull_request& what, member& one);
  void work(job& self, const std::stop_token& stop);
  std::vector<member> members_of(const job& one);
  void start(std::shared_ptr<job> fresh);
  /// Keeps the credentials of a source.
  void remember(const location& from);
  /// With the credentials that were kept.
  pull_setup how_and_known();

  const pull_setup how_;
  std::mutex mutex_;
  std::list<std::shared_ptr<job>> jobs_;
  bool stopped_ = false;
  std::map<std::string, location> known_; ///< as `pull_setup::known`
};

} // namespace troupe::storage
