#pragma once
#include <string_view>

#include "engine/chat_template/ast.hpp"

namespace troupe::engine::jinja {

/// Parses a template. Names are not bound to variables yet: see bind. Throws failure.
program parse(std::string_view source);

/// Decides where every variable lives and which filter and test each name means, by the rules of
/// Jinja's own compiler. Throws failure for an unknown filter or test.
void bind(program& tree);

} // namespace troupe::engine::jinja
