#pragma once
#include <memory>

#include "engine/engine.hpp"
#include "storage/checkpoint.hpp"

namespace troupe::actors {

/// What an engine counts as rows of a tensor: those of a matrix, the elements of a vector.
uint64_t rows_of(const storage::tensor_view& tensor);

/// A tensor as an engine takes it.
engine::weight_view view_of(const storage::tensor_view& tensor);

/// Looks tensors of `files` up by the names that they have there, for an engine. `files` must
/// outlive the lookup and what it gives.
engine::weight_lookup weight_views(const storage::checkpoint& files);

} // namespace troupe::actors
