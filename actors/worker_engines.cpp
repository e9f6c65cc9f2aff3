#include "actors/worker_engines.hpp"

#include <chrono>
#include <utility>

#include "engine/kv/kv_memory.hpp"
#include "engine/model/workspace.hpp"

namespace troupe::actors {

std::function<caf::expected<std::unique_ptr<engine::engine>>(const opened_model&)>
engines_on(std::shared_ptr<gpu::device> device, uint64_t kv_bytes,
           std::shared_ptr<engine::weight_twins> twins) {
  struct shared {
    std::shared_ptr<gpu::device> device; // outlives the memory on it
    engine::device_share memory;
  };
  auto work = std::make_shared<engine::workspace>(*device);
  return [has = std::make_shared<shared>(
              shared{std::move(device), {nullptr, std::move(work), std::move(twins)}}),
          kv_bytes](const opened_model& x) -> caf::expected<std::unique_ptr<engine::engine>> {
    if (!has->memory.kv) {
      auto made = engine::kv_memory::create(*has->device, kv_bytes);
      if (!made)
        return made.error();
      has->memory.kv = std::move(*made);
    }
    auto options = x.order.options;
    options.clock = [] { return std::chrono::steady_clock::now(); };
    return engine::engine::create(*x.config, x.lookup, x.keep_alive, *has->device, options,
                                  x.draft.get(), has->memory, x.checkpoint);
  };
}

} // namespace troupe::actors
