#pragma once
#include <string>
#include <vector>

#include "base/error.hpp"
#include "config/settings.hpp"
#include "storage/catalog.hpp"

namespace troupe::cli {

/// True for what can only be meant as a directory, whether there is one or not.
bool looks_like_path(const std::string& name);

/// The model that `name` means: an exact id; an alias of the settings; or, if only one model's
/// does, the last part of its id in any case ("qwen2.5-0.5b" for "Qwen/Qwen2.5-0.5B"); the name of
/// a repository or folder with GGUF models, with ":QUANTIZATION" or as `storage::choose_gguf`
/// chooses. Fails naming what was meant or how to see what there is.
caf::expected<storage::model_source> choose_model(const std::vector<storage::model_source>& models,
                                                  const config::settings& settings,
                                                  const std::string& name);

} // namespace troupe::cli
