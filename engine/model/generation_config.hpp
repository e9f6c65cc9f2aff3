#pragma once
#include <optional>
#include <string_view>
#include <vector>

#include "engine/engine.hpp"

namespace troupe::engine {

/// The author's advice on sampling: what generation_config.json sets, and nothing else.
struct generation_defaults {
  std::optional<float> temperature;
  std::optional<float> top_p;
  std::optional<int32_t> top_k;
  std::optional<float> min_p;
  std::optional<float> repetition_penalty;
  std::optional<bool> do_sample;
  std::optional<uint32_t> max_new_tokens;
  std::vector<token_id> eos_token_ids;
};

/// Reads a generation_config.json; errors are like those of `parse_model_config`.
caf::expected<generation_defaults> parse_generation_config(std::string_view json,
                                                           std::string_view origin);

/// Adds the end tokens of `defaults` to those of `config`: files of one model often list different
/// ones, and all of them end a text. Ids beyond the vocabulary are dropped.
void add_end_tokens(model_config& config, const generation_defaults& defaults);

/// Sampling parameters of a request that sets none: the author's where given, else those of
/// `sampling_params`. `do_sample = false` alone does not make them greedy, as the OpenAI surface
/// promises temperature 1 unless told otherwise.
sampling_params default_sampling(const generation_defaults& defaults);

} // namespace troupe::engine
