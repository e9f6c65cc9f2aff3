#include "engine/model/rope_fields.hpp"

#include <cmath>

#include "engine/model/limits.hpp"

namespace troupe::engine {

namespace {

using limits::rope_factor_max, limits::rope_theta_max;
constexpr double context_max = limits::context_max;

double yarn_mscale(double factor, double mscale) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

void read_yarn(json_fields& inner, rope_config& rope) {
  rope.beta_fast = inner.number_or("beta_fast", 32.0, 0.0, 1e6);
  rope.beta_slow = inner.number_or("beta_slow", 1.0, 0.0, 1e6);
  if (rope.beta_fast == 0.0) // 0 means "not set" to the reference implementation
    rope.beta_fast = 32.0;
  if (rope.beta_slow == 0.0)
    rope.beta_slow = 1.0;
  rope.truncate = inner.boolean_or("truncate", true);
  const double mscale = inner.number_or("mscale", 0.0, 0.0, 1e3);
  const double mscale_all = inner.number_or("mscale_all_dim", 0.0, 0.0, 1e3);
  if (const auto attention = inner.number("attention_factor", 1e-6, 1e3))
    rope.attention_factor = *attention;
  else if (mscale > 0.0 && mscale_all > 0.0)
    rope.attention_factor = yarn_mscale(rope.factor, mscale) / yarn_mscale(rope.factor, mscale_all);
  else
    rope.attention_factor = yarn_mscale(rope.factor, 1.0);
}

void read_llama3(json_fields& inner, rope_config& rope) {
  rope.low_freq_factor = inner.required_number("low_freq_factor", 1e-3, 1e6);
  rope.high_freq_factor = inner.required_number("high_freq_factor", 1e-3, 1e6);
  if (inner.ok() && rope.high_freq_factor <= rope.low_freq_factor)
    inner.fail("high_freq_factor", "must be larger than low_freq_factor");
}

void read_scaling(json_fields& fields, json_fields& inner, const std::string& kind,
                  int64_t context_length, rope_config& rope) {
  if (kind == "default")
    return;
  const bool known = kind == "linear" || kind == "llama3" || kind == "yarn";
  if (!known) {
    inner.fail("rope_type",
               "is \"" + kind.substr(0, 60) +
                   "\", but supported are default, linear, llama3 and yarn",
               errc::unsupported);
    return;
  }
  const auto outer = fields.number("original_max_position_embeddings", 1, context_max);
  rope.original_context =
      outer ? *outer
            : inner.number_or("original_max_position_embeddings",
                              static_cast<double>(context_length), 1, context_max);
  if (kind == "yarn" && !inner.has("factor"))
    rope.factor = std::max(1.0, static_cast<double>(context_length) / rope.original_context);
  else
    rope.factor = inner.required_number("factor", 1e-3, rope_factor_max);
  if (kind == "linear") {
    rope.kind = rope_kind::linear;
  } else if (kind == "llama3") {
    rope.kind = rope_kind::llama3;
    read_llama3(inner, rope);
  } else {
    rope.kind = rope_kind::yarn;
    read_yarn(inner, rope);
  }
}

} // namespace

rope_config read_rope(json_fields& fields, const std::string& origin, int64_t context_length,
                      int64_t head_dim) {
  static const nlohmann::json nothing = nlohmann::json::object();
  const char* key = fields.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  const auto* scaling = fields.object(key);
  json_fields inner{scaling ? *scaling : nothing, origin, std::string{key} + "."};
  rope_config rope;
  rope.theta = fields.number_or("rope_theta", 10000.0, 1.001, rope_theta_max);
  rope.theta = inner.number_or("rope_theta", rope.theta, 1.001, rope_theta_max);
  rope.partial_factor = fields.number_or("partial_rotary_factor", 1.0, 0.0, 1.0);
  rope.partial_factor = inner.number_or("partial_rotary_factor", rope.partial_factor, 0.0, 1.0);
  const auto rotary = static_cast<int64_t>(static_cast<double>(head_dim) * rope.partial_factor);
  if (rotary < 2 || rotary % 2 != 0)
    fields.fail("partial_rotary_factor",
                "must leave an even number of rotated dimensions, not " + std::to_string(rotary));
  auto kind = inner.string("rope_type");
  if (!kind)
    kind = inner.string("type");
  if (!kind && scaling && (inner.has("full_attention") || inner.has("sliding_attention")))
    inner.fail("full_attention", "is set, but one rope for all layers is all that is supported",
               errc::unsupported);
  read_scaling(fields, inner, kind.value_or("default"), context_length, rope);
  fields.adopt(inner);
  return rope;
}

} // namespace troupe::engine
