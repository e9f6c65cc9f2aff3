#pragma once
#include <string>

#include "base/error.hpp"
#include "config/settings.hpp"

namespace troupe::cli {

/// Settings as people may see them: without the users and passwords that sources name.
config::settings without_secrets(config::settings what);

/// Puts back into the text of a configuration what `without_secrets` hid of `known`. Fails for a
/// hidden one that is not there.
caf::error restore_secrets(std::string& text, const config::settings& known);

} // namespace troupe::cli
