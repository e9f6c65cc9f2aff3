#pragma once
#include <map>

#include "actors/cluster_types.hpp"
#include "actors/model_card.hpp"
#include "actors/services.hpp"
#include "policies/dispatcher.hpp"

namespace troupe::actors {

/// "cold", "loading", "ready" or "failed".
std::string_view state_name(const policies::model_view& view);
/// A model as people see it.
model_status make_status(const model_card& card, const policies::model_view& view,
                         const std::string& device, instant now);
/// A worker's memory as people see it.
device_status make_status(const worker_hello& worker,
                          const std::map<model_id, residence_report>& residents);

} // namespace troupe::actors
