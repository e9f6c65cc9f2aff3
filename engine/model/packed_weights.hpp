#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine.hpp"
#include "engine/model/model_config.hpp"

namespace troupe::engine {

/// What the form of packed weights is known by.
enum class packed_trust : uint8_t {
  found,    ///< what stands in the tensors, which have to be here for that
  declared, ///< what the configuration says; who waits for a weight hears if it says otherwise
};

/// Looks tensors up in a checkpoint of packed weights as if it held the weights themselves;
/// the others come as they are. Codes with scales: see engine/model/scaled_weights.hpp. AWQ and
/// GPTQ, of 4 bits: where the packed form says the same as q4_0 (GPTQ, symmetric,
/// groups of whole blocks in order) it becomes that, exactly; else the weights are decoded to bf16
/// while loading. Every packed tensor that `config` asks for is checked first: fails with
/// missing_tensor or wrong_tensor, naming it.
///
/// GPTQ: https://arxiv.org/abs/2210.17323, AWQ: https://arxiv.org/abs/2306.00978. Weight (n, k) of
/// [outputs, inputs] is scales[g][n] * (q(k, n) - zero(g, n)) with g the group of input k.
/// GPTQ: q is nibble k % 8 of qweight[k / 8][n], zero nibble n % 8 of qzeros[g][n / 8] plus one
/// modulo 16 (version 2: plus none), g = g_idx[k], k / group_size where there is no g_idx.
/// AWQ (gemm): q is in qweight[k][n / 8] and zero in qzeros[g][n / 8], where outputs 0 to 7 have
/// the nibbles 0, 4, 1, 5, 2, 6, 3, 7; g = k / group_size.
/// Looks into g_idx and qzeros at once, and waits for them if they are still on their way; for the
/// rest it is the weights' user who waits. With `packed_trust::declared` it waits for nothing, and
/// whoever waits for a weight that has another form than declared gets wrong_tensor.
caf::expected<weight_lookup> packed_weights(const model_config& config, weight_lookup files,
                                            packed_trust trust = packed_trust::found);

/// What the weights of such a checkpoint are by its configuration, without any bytes: to tell how
/// large they will be before it is here.
weight_lookup declared_weights(const model_config& config);

/// Whether a load needs the tensors of `packed_names` one after another, so that those that were
/// read may go before the last ones have come. Otherwise some are looked into before the rest.
bool packed_in_order(const model_config& config);

/// The tensors of such a checkpoint, in the order in which `packed_weights` and the engine after it
/// need them; `has` says which there are.
std::vector<std::string> packed_names(const model_config& config,
                                      const std::function<bool(std::string_view)>& has,
                                      packed_trust trust = packed_trust::found);

} // namespace troupe::engine
