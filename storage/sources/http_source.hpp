#pragma once
#include <memory>

#include "storage/sources/http.hpp"
#include "storage/sources/location.hpp"
#include "storage/sources/source.hpp"

namespace troupe::storage {

/// The files of a model below one URL. The web has no listings, so `list` asks for the files that a
/// model in safetensors has, and for the shards that its index names; a URL of a weight file is a
/// source of that file alone.
std::shared_ptr<source> make_http_source(const location& from, std::shared_ptr<http_client> over);

/// Names of the files beside its weights that a model may have.
std::span<const std::string_view> usual_model_files();

} // namespace troupe::storage
