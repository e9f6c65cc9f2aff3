#include "actors/model_fetch.hpp"

#include "actors/errors.hpp"
#include "storage/pipeline/weight_tiers.hpp"
#include "storage/store/mend.hpp"
#include "storage/store/model_fetcher.hpp"

namespace troupe::actors {

namespace {

storage::pull_observer observer_of(const fetch_events& events) {
  return [progress = events.progress](const storage::pull_progress& x) {
    if (progress)
      progress(x.done_bytes, x.total_bytes);
  };
}

storage::model_fetcher::ending ending_of(const fetch_events& events) {
  return [then = events.then](const caf::expected<storage::pulled_model>& got) {
    if (got)
      then(fetched_files{got->path.string(), got->weight_bytes, got->fetched_bytes});
    else
      then(got.error());
  };
}

storage::pull_request request_of(const storage::model_origin& where, const std::string& name,
                                 bool weights) {
  return {.from = where.from,
          .name = name,
          .include = {},
          .weights = weights,
          .mirrors = where.mirrors};
}

} // namespace

model_find make_model_find(std::shared_ptr<storage::model_fetcher> fetcher) {
  return [fetcher = std::move(fetcher)](const std::string& origin, const std::string& name) {
    const auto where = storage::parse_origin(origin);
    if (!where || !fetcher)
      return std::string{};
    return fetcher->find(request_of(*where, name, true)).string();
  };
}

model_fetch make_model_fetch(std::shared_ptr<storage::model_fetcher> fetcher) {
  return [fetcher = std::move(fetcher)](const std::string& origin, const std::string& name,
                                        bool weights, fetch_events events) {
    const auto where = storage::parse_origin(origin);
    if (!where)
      return events.then(where.error());
    if (!fetcher)
      return events.then(caf::make_error(errc::load_failed, "fetching " + where->from.text +
                                                                ": this node fetches no models"));
    auto request = request_of(*where, name, weights);
    request.beside = std::move(events.beside);
    request.together = std::move(events.together);
    request.coming = std::move(events.coming);
    fetcher->fetch(std::move(request), observer_of(events), ending_of(events),
                   std::move(events.early));
  };
}

model_mend make_model_mend(std::shared_ptr<storage::model_fetcher> fetcher,
                           std::shared_ptr<storage::weight_tiers> tiers) {
  return [fetcher = std::move(fetcher), tiers = std::move(tiers)](const std::string& dir,
                                                                  const fetch_events& events) {
    if (!fetcher || !tiers)
      return events.then(
          caf::make_error(errc::load_failed, "this node cannot fetch the damaged part anew"));
    fetcher->run(
        [tiers, dir](const storage::pull_setup& how, const storage::pull_observer& observer,
                     const std::stop_token& stop) {
          return storage::mend(dir, tiers->records(), how, observer, stop);
        },
        observer_of(events), ending_of(events));
  };
}

} // namespace troupe::actors
