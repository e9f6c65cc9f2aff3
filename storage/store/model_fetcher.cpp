#include "storage/store/model_fetcher.hpp"

#include <algorithm>

#include "storage/errors.hpp"

namespace troupe::storage {

namespace {

caf::expected<pulled_model> here_or_fetched(const pull_request& what, const pull_setup& how,
                                            const pull_observer& observer,
                                            const early_opening& early,
                                            const std::stop_token& stop) {
  if (const auto found = find_pulled(what, how); !found.path.empty())
    return pulled_model{.name = what.name.empty() ? what.from.model_name : what.name,
                        .dir = model_root(found.path),
                        .path = found.path,
                        .total_bytes = found.look.weight_bytes,
                        .weight_bytes = found.look.weight_bytes};
  return pull(what, how, observer, stop, early);
}

bool same(const pull_request& a, const pull_request& b) {
  return to_string({a.from, a.mirrors}) == to_string({b.from, b.mirrors}) && a.name == b.name &&
         a.include == b.include && a.weights == b.weights;
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

/// True if what is wanted is being fetched already.
bool model_fetcher::join(const pull_request& what, member& one) {
  std::shared_ptr<const arriving_model> arriving;
  const auto early = one.early;
  {
    const std::lock_guard guard{mutex_};
    const auto at = std::find_if(jobs_.begin(), jobs_.end(), [&](const auto& x) {
      return !x->over && x->what && same(*x->what, what);
    });
    if (at == jobs_.end())
      return false;
    arriving = (*at)->arriving;
    (*at)->members.push_back(std::move(one));
  }
  if (arriving && early)
    early(arriving);
  return true;
}

std::vector<model_fetcher::member> model_fetcher::members_of(const job& one) {
  const std::lock_guard guard{mutex_};
  return one.members;
}

void model_fetcher::remember(const location& from) {
  const std::lock_guard guard{mutex_};
  if (!from.credentials.empty())
    known_.insert_or_assign(from.text, from);
}

pull_setup model_fetcher::how_and_known() {
  auto out = how_;
  const std::lock_guard guard{mutex_};
  for (const auto& [text, from] : known_)
    out.known.insert_or_assign(text, from);
  return out;
}

void model_fetcher::work(job& self, const std::stop_token& stop) {
  const auto observer = [&](const pull_progress& now) {
    for (const auto& one : members_of(self))
      if (one.observer)
        one.observer(now);
  };
  const auto early = [&](const std::shared_ptr<const arriving_model>& model) {
    std::vector<member> members;
    {
      const std::lock_guard guard{mutex_};
      self.arriving = model;
      members = self.members;
    }
    for (const auto& one : members)
      if (one.early)
        one.early(model);
  };
  const auto got = self.what ? here_or_fetched(*self.what, how_, observer, early, stop)
                             : self.work(how_and_known(), observer, stop);
  std::vector<member> members;
  {
    const std::lock_guard guard{mutex_};
    self.over = true;
    self.arriving = nullptr;
    members.swap(self.members);
  }
  for (const auto& one : members)
    one.done(got);
}

void model_fetcher::fetch(pull_request what, pull_observer observer, ending done,
                          early_opening early) {
  remember(what.from);
  for (const auto& one : what.mirrors)
    remember(one);
  member mine{std::move(observer), std::move(done), std::move(early)};
  if (join(what, mine))
    return;
  auto fresh = std::make_shared<job>();
  fresh->what = std::move(what);
  fresh->members.push_back(std::move(mine));
  start(std::move(fresh));
}

void model_fetcher::run(errand work, pull_observer observer, ending done) {
  auto fresh = std::make_shared<job>();
  fresh->work = std::move(work);
  fresh->members.push_back({std::move(observer), std::move(done), {}});
  start(std::move(fresh));
}

void model_fetcher::start(std::shared_ptr<job> fresh) {
  std::list<std::shared_ptr<job>> ended; // joined outside of the lock
  std::unique_lock guard{mutex_};
  if (stopped_) {
    guard.unlock();
    return fresh->members.front().done(
        caf::make_error(errc::cancelled, "this node is shutting down"));
  }
  for (auto at = jobs_.begin(); at != jobs_.end();) {
    auto next = std::next(at);
    if ((*at)->over)
      ended.splice(ended.end(), jobs_, at);
    at = next;
  }
  fresh->thread =
      std::jthread{[this, self = fresh.get()](const std::stop_token& stop) { work(*self, stop); }};
  jobs_.push_back(std::move(fresh));
}

} // namespace troupe::storage
