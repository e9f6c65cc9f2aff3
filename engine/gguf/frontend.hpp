#pragma once
#include <memory>
#include <string>

#include "engine/frontend/frontend.hpp"
#include "engine/gguf/source.hpp"

namespace troupe::engine {

/// The text side of a GGUF model, all of it from the file's metadata: tokenizer, chat template, end
/// tokens, and the author's advice on sampling where there is some.
caf::expected<std::shared_ptr<const frontend>> load_gguf_frontend(const gguf_source& source,
                                                                  const std::string& name);

} // namespace troupe::engine
