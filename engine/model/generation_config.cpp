#include "engine/model/generation_config.hpp"

#include <algorithm>

#include "engine/model/json_fields.hpp"
#include "engine/model/model_config.hpp"

namespace troupe::engine {

namespace {

std::optional<float> number(json_fields& fields, const char* key, double min, double max) {
  const auto x = fields.number(key, min, max);
  return x ? std::optional{static_cast<float>(*x)} : std::nullopt;
}

} // namespace

caf::expected<generation_defaults> parse_generation_config(std::string_view json,
                                                           std::string_view origin) {
  auto document = parse_json_object(json, origin);
  if (!document)
    return std::move(document.error());
  json_fields fields{*document, std::string{origin}};
  generation_defaults out;
  out.temperature = number(fields, "temperature", 0.0, 100.0);
  out.top_p = number(fields, "top_p", 0.0, 1.0);
  // -1 is another common way to say "off".
  if (const auto k = fields.integer("top_k", -1, int64_t{1} << 30))
    out.top_k = static_cast<int32_t>(std::max<int64_t>(*k, 0));
  if (out.top_p == 0.0f) { // keeps one token, and requests may not say 0
    out.top_p.reset();
    out.top_k = 1;
  }
  out.min_p = number(fields, "min_p", 0.0, 1.0);
  out.repetition_penalty = number(fields, "repetition_penalty", 0.01, 100.0);
  out.do_sample = fields.boolean("do_sample");
  if (const auto n = fields.integer("max_new_tokens", 1, int64_t{1} << 30))
    out.max_new_tokens = static_cast<uint32_t>(*n);
  out.eos_token_ids = fields.ids("eos_token_id", int64_t{1} << 30);
  if (!fields.ok())
    return fields.error();
  return out;
}

void add_end_tokens(model_config& config, const generation_defaults& defaults) {
  auto& known = config.eos_token_ids;
  for (const auto id : defaults.eos_token_ids)
    if (id < config.vocab_size && std::find(known.begin(), known.end(), id) == known.end())
      known.push_back(id);
}

sampling_params default_sampling(const generation_defaults& defaults) {
  sampling_params out;
  out.temperature = defaults.temperature.value_or(out.temperature);
  out.top_p = defaults.top_p.value_or(out.top_p);
  out.top_k = defaults.top_k.value_or(out.top_k);
  out.min_p = defaults.min_p.value_or(out.min_p);
  out.repetition_penalty = defaults.repetition_penalty.value_or(out.repetition_penalty);
  return out;
}

} // namespace troupe::engine
