#include "actors/pooled_files.hpp"

#include <algorithm>

#include "actors/log.hpp"
#include "actors/node.hpp"
#include "engine/model/weights.hpp"
#include "policies/eviction.hpp"
#include "policies/load_cost.hpp"
#include "storage/errors.hpp"

namespace troupe::actors {

namespace {

using storage::pooled_weights;

/// Without a pool of its own a node has this much for small models; no memory until it is used.
constexpr uint64_t private_pool_bytes = 64u << 20;

std::vector<std::string> names_of(const std::vector<engine::weight_spec>& plan) {
  std::vector<std::string> out;
  for (const auto& spec : plan)
    out.push_back(spec.name);
  return out;
}

engine::weight_lookup lookup_of(const std::shared_ptr<pooled_weights>& weights) {
  return [from = weights.get()](std::string_view name) -> std::optional<engine::weight_view> {
    const auto found = from->find(name);
    if (!found)
      return std::nullopt;
    const auto index = from->index_of(name);
    engine::weight_view out{
        found->type, {found->shape.begin(), found->shape.end()}, found->bytes.data()};
    out.wait = [from, index] { return from->wait(index + 1).why; };
    // The embedding may be bound twice: where it lies, and converted as the head.
    if (index != 0)
      out.drop = [from, index] { from->release(index); };
    return out;
  };
}

} // namespace

std::shared_ptr<storage::weight_tiers> open_tiers(const storage_options& options) {
  if (options.pool.empty() || options.pool_bytes == 0)
    return nullptr;
  storage::weight_tiers_options tiers;
  tiers.checksums = options.checksums;
  tiers.pool.path = options.pool;
  // Half of the tmpfs is for others. Not half of what is free: a pool is found again by its size.
  tiers.pool.size_bytes =
      std::min(options.pool_bytes, storage::capacity_of(options.pool.parent_path()) / 2);
  tiers.pool.worth = [](const storage::chunk_use& x) {
    return policies::reuse_worth({x.reload_seconds, x.heat, x.idle_seconds});
  };
  tiers.pool.warmed = policies::warmed;
  auto opened = storage::weight_tiers::open(tiers);
  if (opened)
    return *opened;
  log_info("weights are mapped from their files, not kept in a pool: " + describe(opened.error()));
  // Mapped files are verified against the same records; what this pool could hold hardly matters.
  tiers.pool.path.clear();
  tiers.pool.size_bytes = private_pool_bytes;
  opened = storage::weight_tiers::open(std::move(tiers));
  return opened ? *opened : nullptr;
}

caf::expected<bool> open_pooled(const std::shared_ptr<storage::weight_tiers>& tiers,
                                const std::shared_ptr<const storage::checkpoint>& files,
                                const engine::model_config& config, const open_progress& progress,
                                opened_model& out) {
  const auto plan = engine::weight_plan(config);
  const auto stop = [] {
    return caf::make_error(storage::errc::cancelled, "the load was cancelled");
  };
  // Other names or other forms than an engine binds (GGUF, packed weights) are read through maps.
  const bool plain = std::all_of(plan.begin(), plan.end(), [&](const engine::weight_spec& spec) {
    return files->find(spec.name).has_value();
  });
  if (!plain)
    return false;
  auto started = pooled_weights::start(tiers, files, names_of(plan));
  if (!started)
    return started.error();
  const auto& weights = *started;
  if (!weights)
    return false;
  const auto total = weights->total_bytes();
  if (!progress(0, total))
    return stop();
  const auto first = engine::plan_tensors(config, 1);
  pooled_weights::state now;
  while (!now.over) {
    now = weights->wait(plan.size() + 1, now.bytes);
    if (now.why == storage::errc::no_memory)
      return false; // the page cache makes do with what there is
    if (now.why)
      return now.why;
    if (!progress(now.bytes, total))
      return stop();
    const auto left = static_cast<double>(total - now.bytes);
    if (now.tensors >= first && policies::may_start_early(left, tiers->pipeline().origin_rate()))
      break;
  }
  out.lookup = lookup_of(weights);
  out.keep_alive = weights;
  if (!now.over)
    out.arriving = [from = weights.get()](size_t tensors) { return from->wait(tensors).why; };
  return true;
}

} // namespace troupe::actors
