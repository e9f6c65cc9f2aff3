#pragma once
#include <optional>
#include <string>
#include <vector>

#include "engine/engine.hpp"
#include "engine/model/packed_weights.hpp"
#include "engine/model/weights.hpp"

namespace troupe::engine {

/// A matrix that the checkpoint keeps in one of `forms`, as if it held the weights themselves (see
/// `scaled_matrix`); nothing if it is there in floats, or not at all. Its tensors' types and shapes
/// tell which form it is. Fails with missing_tensor or wrong_tensor, naming the tensor and what was
/// asked for. With `packed_trust::found` scales, zeros and orders of whole numbers are looked into
/// at once.
caf::expected<std::optional<weight_view>> scaled_weight(const std::vector<scaled_form>& forms,
                                                        const weight_spec& want,
                                                        const weight_lookup& files,
                                                        packed_trust trust);

/// The tensors that such a matrix may have beside its codes.
std::vector<std::string> scaled_parts(const std::string& name);

} // namespace troupe::engine
