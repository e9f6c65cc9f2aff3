#pragma once
#include "actors/request.hpp"
#include "policies/dispatcher.hpp"

namespace troupe::actors {

/// A refusal of the dispatcher as the client hears of it.
failure to_failure(const policies::refusal& why);
/// An error of any module as the client hears of it. `doing` comes first in the message.
failure to_failure(const caf::error& why);

/// In a word, for logs: "queue_full".
std::string_view kind_name(failure_kind kind);

} // namespace troupe::actors
