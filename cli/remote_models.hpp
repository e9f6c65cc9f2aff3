#pragma once
#include <string>
#include <vector>

#include "base/error.hpp"
#include "config/settings.hpp"
#include "storage/catalog.hpp"
#include "storage/store/pull.hpp"

namespace troupe::cli {

/// The model that comes `from` there, called `name`: where it is, if all of it is on this machine,
/// else one to be fetched when it is first needed.
storage::model_source model_at(const storage::model_origin& from, const std::string& name,
                               const storage::pull_setup& how);

/// The models that have a `source` in the configuration and are not among `found`.
caf::expected<std::vector<storage::model_source>>
configured_models(const config::settings& settings,
                  const std::vector<storage::model_source>& found);

} // namespace troupe::cli
