#pragma once
#include <string>
#include <string_view>

namespace troupe::storage {

/// A name from a file, in quotes, as a message may hold it: the name may be megabytes long or hold
/// control characters.
std::string shown(std::string_view name);

} // namespace troupe::storage
