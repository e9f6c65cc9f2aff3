#pragma once
#include <string>
#include <string_view>

#include "base/error.hpp"

namespace troupe::engine {

/// Rewrites Oniguruma syntax, which a tokenizer.json is written in, as PCRE2 syntax of the same
/// meaning: \s, \w, \b and \h differ. What has no counterpart (set operations inside a class) is
/// an error, not a guess.
caf::expected<std::string> to_pcre2_syntax(std::string_view pattern, const std::string& origin);

} // namespace troupe::engine
