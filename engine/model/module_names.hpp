#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "engine/tokenizer/regex.hpp"

namespace troupe::engine {

/// Modules of a model as the lists of a quantization_config name them: "lm_head", "mlp.gate" for
/// all that end so, "model.layers.3" for all below it, "re:.*self_attn.*" for what a pattern
/// matches from its beginning, as Python's re.match. A pattern that is none names nothing.
class module_names {
public:
  explicit module_names(const std::vector<std::string>& names);
  /// Whether one of them means `module`, as "model.layers.0.mlp.up_proj".
  bool contain(std::string_view module) const;

private:
  std::vector<std::string> names_;
  std::vector<regex> patterns_;
};

} // namespace troupe::engine
