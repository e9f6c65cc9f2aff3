#include "actors/pooled_files.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>

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

/// How long somebody has waited, all threads together.
class stopwatch {
public:
  template <class Work>
  auto around(Work work) {
    const auto began = std::chrono::steady_clock::now();
    auto out = work();
    nanoseconds_ += (std::chrono::steady_clock::now() - began).count();
    return out;
  }
  double seconds() const { return static_cast<double>(nanoseconds_.load()) * 1e-9; }

private:
  std::atomic<int64_t> nanoseconds_{0};
};

engine::weight_lookup lookup_of(const std::shared_ptr<pooled_weights>& weights,
                                const std::shared_ptr<stopwatch>& waits) {
  return
      [from = weights.get(), waits](std::string_view name) -> std::optional<engine::weight_view> {
        const auto found = from->find(name);
        if (!found)
          return std::nullopt;
        const auto index = from->index_of(name);
        engine::weight_view out{
            found->type, {found->shape.begin(), found->shape.end()}, found->bytes.data()};
        out.wait = [from, index, waits] {
          return waits->around([&] { return from->wait(index + 1).why; });
        };
        // The embedding may be bound twice: where it lies, and converted as the head.
        if (index != 0)
          out.drop = [from, index] { from->release(index); };
        return out;
      };
}

/// Until all bytes are there, or none will come.
void follow(pooled_weights& weights, const open_progress& progress) {
  pooled_weights::state now;
  while (!now.over) {
    now = weights.wait(weights.tensor_count() + 1, now.bytes);
    if (!progress(now.bytes, weights.total_bytes()))
      return weights.cancel();
  }
}

} // namespace

std::vector<std::string> pooled_names(const storage::checkpoint& files,
                                      const engine::model_config& config) {
  std::vector<std::string> out;
  for (const auto& spec : engine::weight_plan(config)) {
    if (!files.find(spec.name))
      return {};
    out.push_back(spec.name);
  }
  return out;
}

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
  const auto names = pooled_names(*files, config);
  const auto stop = [] {
    return caf::make_error(storage::errc::cancelled, "the load was cancelled");
  };
  if (names.empty())
    return false;
  auto started = pooled_weights::start(tiers, files, names);
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
    now = weights->wait(names.size() + 1, now.bytes);
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
  const auto waits = std::make_shared<stopwatch>();
  out.lookup = lookup_of(weights, waits);
  out.waited = [waits] { return waits->seconds(); };
  out.keep_alive = weights;
  out.whence = [weights] {
    const auto counts = weights->counts();
    policies::tier_bytes bytes{};
    bytes[static_cast<size_t>(policies::load_tier::disk)] = static_cast<double>(counts.disk_bytes);
    bytes[static_cast<size_t>(policies::load_tier::pool)] = static_cast<double>(counts.pool_bytes);
    return bytes;
  };
  if (!now.over) {
    out.arriving = [from = weights.get()](size_t tensors) { return from->wait(tensors).why; };
    out.follow = [weights](const open_progress& progress) { follow(*weights, progress); };
  }
  return true;
}

} // namespace troupe::actors
