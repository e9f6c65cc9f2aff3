#pragma once
#include <memory>
#include <string_view>
#include <utility>

#include "cli/bench/random_weights.hpp"
#include "cli/bench/shapes.hpp"
#include "engine/engine.hpp"
#include "engine/model/model_config.hpp"
#include "gpu/device.hpp"

namespace troupe::bench {

/// An engine over random weights of SmolLM2-135M's shape. `device` must outlive it.
inline std::unique_ptr<engine::engine> make_engine(gpu::device& device,
                                                   const engine::engine_options& options) {
  const auto config = engine::parse_model_config(
      cli::bench::config_json(*cli::bench::find_shape("smollm2-135m"), dtype::bf16), "shape");
  const auto weights = cli::bench::random_weights::create(*config, dtype::bf16, 2);
  auto made = engine::engine::create(
      *config, [&](std::string_view name) { return (*weights)->find(name); }, *weights, device,
      options);
  return std::move(*made);
}

} // namespace troupe::bench
