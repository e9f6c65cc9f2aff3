#include "actors/model_fetch.hpp"

#include "actors/errors.hpp"
#include "storage/store/model_fetcher.hpp"

namespace troupe::actors {

model_find make_model_find(std::shared_ptr<storage::model_fetcher> fetcher) {
  return [fetcher = std::move(fetcher)](const std::string& origin, const std::string& name) {
    const auto from = storage::parse_location(origin);
    if (!from || !fetcher)
      return std::string{};
    return fetcher->find({.from = *from, .name = name, .include = {}, .weights = true}).string();
  };
}

model_fetch make_model_fetch(std::shared_ptr<storage::model_fetcher> fetcher) {
  return [fetcher = std::move(fetcher)](const std::string& origin, const std::string& name,
                                        bool weights, auto progress, auto then) {
    const auto from = storage::parse_location(origin);
    if (!from)
      return then(from.error());
    if (!fetcher)
      return then(caf::make_error(errc::load_failed,
                                  "fetching " + from->text + ": this node fetches no models"));
    fetcher->fetch(
        {.from = *from, .name = name, .include = {}, .weights = weights},
        [progress = std::move(progress)](const storage::pull_progress& x) {
          if (progress)
            progress(x.done_bytes, x.total_bytes);
        },
        [then = std::move(then)](const caf::expected<storage::pulled_model>& got) {
          if (got)
            then(fetched_files{got->dir.string(), got->weight_bytes, got->fetched_bytes});
          else
            then(got.error());
        });
  };
}

} // namespace troupe::actors
