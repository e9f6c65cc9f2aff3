#pragma once
#include <optional>

#include "actors/request.hpp"
#include "actors/text_side.hpp"

namespace troupe::actors {

/// What the client asked for over what the model's author advises. `max_tokens` stays what the
/// client said, or `context_left` if it said nothing.
engine::sampling_params merge_sampling(const sampling_request& asked,
                                       const engine::sampling_params& advised,
                                       uint32_t context_left);

/// Why a prompt of `prompt_tokens` with up to `max_tokens` of answer is too long, or nothing.
std::optional<failure> check_context(uint32_t context_length, size_t prompt_tokens,
                                     std::optional<uint32_t> max_tokens);

} // namespace troupe::actors
