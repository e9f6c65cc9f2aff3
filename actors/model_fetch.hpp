#pragma once
#include <functional>
#include <memory>
#include <string>

#include "actors/messages.hpp"

namespace troupe::storage {
class model_fetcher;
}

namespace troupe::actors {

/// Brings the files that `origin` names to this machine, as the model `name`, with its weights or
/// without; returns at once. Both functions are called on another thread, `then` last and once.
using model_fetch =
    std::function<void(const std::string& origin, const std::string& name, bool weights,
                       std::function<void(uint64_t done, uint64_t total)> progress,
                       std::function<void(caf::expected<fetched_files>)> then)>;

/// By `fetcher`; null = every fetch fails, as this node was given no way to fetch.
model_fetch make_model_fetch(std::shared_ptr<storage::model_fetcher> fetcher);

/// Where the model `name` from `origin` lies if all of it is on this machine, else empty. Asks
/// nothing of the network; reads directories.
using model_find = std::function<std::string(const std::string& origin, const std::string& name)>;
model_find make_model_find(std::shared_ptr<storage::model_fetcher> fetcher);

} // namespace troupe::actors
