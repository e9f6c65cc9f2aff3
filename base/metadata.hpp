#pragma once
#include <cstdint>
#include <map>
#include <string_view>
#include <variant>
#include <vector>

namespace troupe {

/// A list in a model file's metadata; one alternative by its element type.
using metadata_list = std::variant<std::vector<uint64_t>, std::vector<int64_t>, std::vector<double>,
                                   std::vector<bool>, std::vector<std::string_view>>;

/// One value of a model file's metadata; integers and floats of every width are widened.
using metadata_value =
    std::variant<uint64_t, int64_t, double, bool, std::string_view, metadata_list>;

/// What a model file that describes itself (GGUF) says beside its tensors. Names and texts point
/// into memory of whoever read the file, and are whatever bytes it holds.
using metadata = std::map<std::string_view, metadata_value>;

} // namespace troupe
