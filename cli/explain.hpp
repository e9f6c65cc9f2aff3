#pragma once
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "cli/inspect.hpp"

namespace troupe::cli {

/// What a request was expected to go through, and what it did, by the id of its header or answer.
/// Without an id the newest requests are listed; with `last` the newest one is explained. Returns
/// an exit code.
int explain_request(const inspect_options& options, const std::string& id, bool last);

/// One request as /admin/requests/ID gives it -> what people read.
std::string explain_text(const nlohmann::ordered_json& request, bool colour);
/// `rows` of /admin/requests -> a table.
std::string requests_text(const nlohmann::ordered_json& rows, time_point now, bool colour);

} // namespace troupe::cli
