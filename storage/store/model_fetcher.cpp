#include "storage/store/model_fetcher.hpp"

#include "storage/errors.hpp"
#include "storage/model_dir.hpp"

namespace troupe::storage {

namespace {

caf::expected<pulled_model> here_or_fetched(const pull_request& what, const pull_setup& how,
                                            const pull_observer& observer,
                                            const std::stop_token& stop) {
  if (const auto dir = find_pulled(what, how); !dir.empty()) {
    const auto look = inspect_model_dir(dir);
    return pulled_model{.name = what.name.empty() ? what.from.model_name : what.name,
                        .dir = dir,
                        .total_bytes = look.weight_bytes,
                        .weight_bytes = look.weight_bytes};
  }
  return pull(what, how, observer, stop);
}

} // namespace

void model_fetcher::stop() {
  std::list<std::shared_ptr<job>> jobs;
  {
    const std::lock_guard guard{mutex_};
    stopped_ = true;
    jobs.swap(jobs_);
  }
  for (const auto& one : jobs)
    one->thread.request_stop();
  for (const auto& one : jobs)
    one->thread.join();
}

void model_fetcher::fetch(pull_request what, pull_observer observer,
                          std::function<void(caf::expected<pulled_model>)> done) {
  std::list<std::shared_ptr<job>> ended; // joined outside of the lock
  std::unique_lock guard{mutex_};
  if (stopped_) {
    guard.unlock();
    return done(caf::make_error(errc::cancelled, "this node is shutting down"));
  }
  for (auto at = jobs_.begin(); at != jobs_.end();) {
    auto next = std::next(at);
    if ((*at)->over)
      ended.splice(ended.end(), jobs_, at);
    at = next;
  }
  auto mine = std::make_shared<job>();
  mine->thread =
      std::jthread{[this, what = std::move(what), observer = std::move(observer),
                    done = std::move(done), self = mine.get()](const std::stop_token& stop) {
        done(here_or_fetched(what, how_, observer, stop));
        const std::lock_guard over{mutex_};
        self->over = true;
      }};
  jobs_.push_back(std::move(mine));
}

} // namespace troupe::storage
