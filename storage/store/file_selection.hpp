#pragma once
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "storage/gguf_choice.hpp"
#include "storage/sources/source.hpp"

namespace troupe::storage {

/// Whether a file holds weights, by its name. Those are fetched last, and may be left out.
bool is_weight_file(std::string_view path);

/// The files of a repository that serving its model takes: those in its top directory, without
/// pictures, and of the weights only one format: safetensors if there are any and `meant` says
/// nothing else, else one GGUF model (see `choose_gguf`), with small texts alone beside it.
/// `include` (a glob with * and ?, on the whole path) chooses among the weights in their stead.
/// Fails with `unsupported` or `not_found` if there are no such weights, or several to choose from.
caf::expected<std::vector<source_file>> files_to_serve(std::vector<source_file> all,
                                                       std::string_view include,
                                                       const std::string& origin,
                                                       const gguf_choice& meant = {});

/// Whether the whole of `text` matches `pattern`: * is any text, ? any character.
bool matches_glob(std::string_view text, std::string_view pattern);

} // namespace troupe::storage
