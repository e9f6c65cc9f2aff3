#include "actors/pooled_files.hpp"

#include <algorithm>
#include <thread>

#include "actors/log.hpp"
#include "actors/node.hpp"
#include "actors/weight_views.hpp"
#include "gpu/device.hpp"
#include "policies/eviction.hpp"
#include "storage/errors.hpp"
#include "storage/pipeline/pooled_weights.hpp"

namespace troupe::actors {

namespace {

using storage::pooled_weights;

/// Without a pool of its own a node has this much for small models; no memory until it is used.
constexpr uint64_t private_pool_bytes = 64u << 20;
constexpr uint32_t workers_max = 8;

engine::weight_lookup lookup_of(const std::shared_ptr<pooled_weights>& weights) {
  return [from = weights.get()](std::string_view name) -> std::optional<engine::weight_view> {
    const auto found = from->find(name);
    if (!found)
      return std::nullopt;
    auto out = view_of(*found);
    const auto row_bytes = found->bytes.size() / rows_of(*found);
    out.transient = from->pass_through();
    out.wait = [from, row_bytes, key = std::string{name}](int64_t rows,
                                                          const std::stop_token& stop) {
      return from->wait(key, static_cast<uint64_t>(rows) * row_bytes, stop);
    };
    // What passes through has to go at once, to make room.
    if (!out.transient)
      out.pinned = [from](const std::byte* at, uint64_t size_bytes) {
        return from->pinned(at, size_bytes);
      };
    out.drop = [from, row_bytes, key = std::string{name}](int64_t rows) {
      from->release(key, static_cast<uint64_t>(rows) * row_bytes);
    };
    return out;
  };
}

/// Stops the load when the engine that wants it is gone.
struct wanted_weights {
  std::shared_ptr<const void> peers; ///< which the weights may come from
  std::shared_ptr<pooled_weights> weights;
  ~wanted_weights() { weights->cancel(); }
};

/// Over the pool that `options` name.
caf::expected<std::shared_ptr<storage::weight_tiers>>
open_shared(storage::weight_tiers_options tiers, const storage_options& options) {
  const auto capacity = storage::capacity_of(options.pool.parent_path());
  if (!capacity)
    return capacity.error();
  // Half of the tmpfs is for others. Not half of what is free: a pool is found again by its size.
  tiers.pool.size_bytes = std::min(options.pool_bytes, *capacity / 2);
  tiers.pool.ready_bytes = std::min(options.ready_bytes, tiers.pool.size_bytes);
  return storage::weight_tiers::open(std::move(tiers));
}

} // namespace

std::shared_ptr<storage::weight_tiers> open_tiers(const storage_options& options) {
  if (options.pool.empty() || options.pool_bytes == 0)
    return nullptr;
  storage::weight_tiers_options tiers;
  tiers.checksums = options.checksums;
  tiers.pool.path = options.pool;
  tiers.pool.worth = [](const storage::chunk_use& x) {
    return policies::reuse_worth({x.reload_seconds, x.heat, x.idle_seconds});
  };
  tiers.pool.warmed = policies::warmed;
  // Verifying what the pool holds takes some cores as long as a fast link takes to copy it.
  tiers.pipeline.workers =
      std::clamp(std::thread::hardware_concurrency() / 2, tiers.pipeline.workers, workers_max);
  auto opened = open_shared(tiers, options);
  if (opened)
    return *opened;
  // Two servers on one machine are no mistake.
  (opened.error() == storage::errc::in_use ? log_info : log_warning)(
      "weights are mapped from their files, not kept in a pool: " + describe(opened.error()));
  // Mapped files are verified against the same records; what this pool could hold hardly matters.
  tiers.pool.path.clear();
  tiers.pool.ready_bytes = 0;
  tiers.pool.size_bytes = private_pool_bytes;
  opened = storage::weight_tiers::open(std::move(tiers));
  return opened ? *opened : nullptr;
}

bool pin_pool(storage::weight_tiers& tiers, gpu::device& device, uint64_t bytes_max) {
  auto by = device.pinner();
  if (!by || bytes_max == 0)
    return false;
  tiers.pool().pin(std::move(by), bytes_max, [](const caf::error& why) {
    log_info("the rest of the host pool stays unpinned, and weights in it reach devices through "
             "buffers that are: " +
             describe(why));
  });
  return true;
}

caf::expected<std::optional<opened_weights>>
open_pooled(const std::shared_ptr<storage::weight_tiers>& tiers,
            const std::shared_ptr<const storage::checkpoint>& files, const weight_form& form,
            const std::shared_ptr<const storage::arriving_model>& arriving,
            const found_model& found) {
  const auto started = pooled_weights::start(
      tiers, files,
      {.names = form.names, .in_order = form.in_order, .arriving = arriving, .from = found.from});
  if (!started)
    return started.error();
  const auto& weights = *started;
  if (!weights)
    return std::optional<opened_weights>{};
  opened_weights out;
  out.keep_alive = std::shared_ptr<wanted_weights>{new wanted_weights{found.keep_alive, weights}};
  auto lookup = form.wrap(lookup_of(weights));
  if (!lookup)
    return lookup.error();
  out.lookup = std::move(*lookup);
  out.total_bytes = weights->total_bytes();
  out.follow = [weights, peers = found.keep_alive,
                loading = found.loading](const open_progress& progress) {
    const auto total = weights->total_bytes();
    for (pooled_weights::state now; !now.over;) {
      now = weights->follow(now.bytes);
      if (!progress(now.bytes, total))
        weights->cancel();
    }
  };
  out.whence = [weights, received = found.received] {
    const auto counts = weights->counts();
    const auto remote = received ? std::min(received->load(), counts.disk_bytes) : 0;
    const auto here = counts.disk_bytes - remote;
    const auto cached = std::min(counts.cached_bytes, here);
    policies::tier_bytes bytes{};
    const auto set = [&](policies::load_tier tier, uint64_t count) {
      bytes[static_cast<size_t>(tier)] = static_cast<double>(count);
    };
    set(policies::load_tier::remote, remote);
    set(policies::load_tier::disk, here - cached);
    set(policies::load_tier::cached, cached);
    set(policies::load_tier::pool, counts.pool_bytes);
    return bytes;
  };
  return std::optional{std::move(out)};
}

} // namespace troupe::actors
