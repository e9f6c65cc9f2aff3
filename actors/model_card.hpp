#pragma once
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/ids.hpp"
#include "engine/engine.hpp"
#include "storage/catalog.hpp"

namespace troupe::actors {

struct model_text;

/// What is known of a served model: fixed facts, and counters that any actor may bump.
struct model_card {
  storage::model_source source;
  engine::engine_options options; ///< with this model's own settings
  std::string draft_dir;          ///< of the model that guesses for it; empty = none
  /// A model that is fetched when it is first needed: the size of its weights, once it is known.
  std::atomic<uint64_t> fetched_bytes{0};
  uint64_t weight_bytes() const { return std::max(source.weight_bytes, fetched_bytes.load()); }
  std::atomic<uint32_t> context_length{0};
  std::atomic<uint64_t> requests{0};
  std::atomic<uint64_t> generated_tokens{0};
  std::atomic<int64_t> last_used_us{0}; ///< system clock; 0 = never
  /// The text side once it is loaded, so that a warm request need not ask for it.
  std::atomic<std::shared_ptr<const model_text>> text;
  void touch() {
    last_used_us = std::chrono::duration_cast<std::chrono::microseconds>(
                       std::chrono::system_clock::now().time_since_epoch())
                       .count();
  }
};
using model_card_ptr = std::shared_ptr<model_card>;

} // namespace troupe::actors
