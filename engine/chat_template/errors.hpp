#pragma once
#include <cstdint>

#include "base/error.hpp"

namespace troupe::engine {

/// What can go wrong with a chat template. Append only: the numbers travel between nodes.
enum class template_errc : uint8_t {
  /// The source is not a template: the text names the line and what was expected.
  syntax = 1,
  /// The template uses a part of Jinja that this interpreter leaves out on purpose.
  unsupported,
  /// Rendering failed: a wrong type, an undefined value in use, a bad argument.
  runtime,
  /// The template called raise_exception: the error's text is exactly what it was given, and it
  /// speaks to whoever wrote the conversation.
  raised,
  /// The template needed more steps, depth, output or range than it is allowed.
  limit,
};

} // namespace troupe::engine

CAF_ERROR_CODE_ENUM(troupe::engine::template_errc, "template")
