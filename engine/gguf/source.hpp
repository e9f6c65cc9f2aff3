#pragma once
#include <string>

#include "base/metadata.hpp"
#include "engine/engine.hpp"

namespace troupe::engine {

/// A GGUF model as whoever reads the file hands it over.
struct gguf_source {
  const metadata& values;
  weight_lookup tensors; ///< by their names in the file
  std::string origin;    ///< begins every error message: a path
};

} // namespace troupe::engine
