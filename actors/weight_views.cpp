#include "actors/weight_views.hpp"

#include <algorithm>

namespace troupe::actors {

engine::weight_view view_of(const storage::tensor_view& found) {
  engine::weight_view out;
  out.type = found.type;
  out.shape.assign(found.shape.begin(), found.shape.end());
  out.drop = [bytes = found.bytes, all = rows_of(found)](int64_t rows) {
    storage::drop_pages(bytes.data(), bytes.size() / all * static_cast<uint64_t>(rows));
  };
  out.data = found.bytes.data();
  return out;
}

uint64_t rows_of(const storage::tensor_view& tensor) {
  return tensor.shape.empty() ? 1 : std::max<uint64_t>(1, static_cast<uint64_t>(tensor.shape[0]));
}

engine::weight_lookup weight_views(const storage::checkpoint& files) {
  return [&files](std::string_view name) -> std::optional<engine::weight_view> {
    const auto found = files.find(name);
    if (!found)
      return std::nullopt;
    return view_of(*found);
  };
}

} // namespace troupe::actors
