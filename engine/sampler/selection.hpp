#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/engine.hpp"

/// The parts of sampling that touch the whole vocabulary, each in a few passes over memory.
namespace troupe::engine {

/// A token and its share of the draw, not normalised.
struct weighted_token {
  float weight = 0;
  token_id token = 0;
};

/// The highest logit; NaN if any of them is NaN.
float highest_of(std::span<const float> logits);

/// Masses are weights as integers (`gpu::mass_of`): their sums have no order.
uint64_t mass_of_all(std::span<const float> weights);

/// weights[i] = exp((logits[i] - highest) / temperature), in [0, 1]; 0 below e^-87. Returns their
/// mass. The result is the same on every machine and device (`gpu/choice_math.hpp`).
uint64_t exponentials(std::span<const float> logits, float highest, float temperature,
                      std::vector<float>& weights);

/// The `count` tokens of the largest positive weight into `out`, heaviest first, ties by token id.
/// `scratch` is overwritten.
void heaviest(std::span<const float> weights, size_t count, std::vector<weighted_token>& out,
              std::vector<weighted_token>& scratch);

/// The nucleus (Holtzman et al., "The curious case of neural text degeneration", section 3.1): the
/// fewest heaviest tokens whose mass is at least `share` of `total`, by token id.
/// `scratch` is overwritten.
void nucleus(std::span<const float> weights, uint64_t total, float share,
             std::vector<weighted_token>& out, std::vector<weighted_token>& scratch);

/// The `count` highest logits, highest first, ties by token id.
std::vector<token_id> highest_tokens(std::span<const float> logits, size_t count);

} // namespace troupe::engine
