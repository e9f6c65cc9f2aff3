#pragma once
#include <memory>

#include "storage/sources/hub_source.hpp"
#include "storage/sources/location.hpp"

namespace troupe::storage {

/// The source that a location means, with the accounts of the environment. Only local ones are
/// looked at here; the others are asked by what is called on them.
caf::expected<std::shared_ptr<source>> open_source(const location& from,
                                                   std::shared_ptr<http_client> over);

} // namespace troupe::storage
