#pragma once
#include <cstdint>

#include "base/error.hpp"

namespace troupe::engine {

/// What can be wrong with a tokenizer.json. Append only: the numbers travel between nodes.
enum class tokenizer_errc : uint8_t {
  /// The file cannot be read.
  unreadable = 1,
  /// Not JSON, or a field of another type or range than the format has.
  malformed,
  /// A well-formed tokenizer of a kind that is not implemented here.
  unsupported,
};

} // namespace troupe::engine

CAF_ERROR_CODE_ENUM(troupe::engine::tokenizer_errc, "tokenizer")
