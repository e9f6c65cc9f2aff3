#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "actors/checkpoint_loader.hpp"
#include "actors/messages.hpp"
#include "actors/model_card.hpp"
#include "actors/peer_plane.hpp"
#include "actors/stager.hpp"
#include "engine/model/weight_twins.hpp"
#include "gpu/device.hpp"
#include "storage/pipeline/weight_tiers.hpp"

namespace troupe::actors {

/// Opens the files that `order` names, those of its draft model too, and brings the weights into
/// memory: through `tiers` where that pays, mapped where it does not or where there are no tiers
/// (null). With `peers`, files that are not on this machine come from other nodes. Blocks, but with
/// `opened_model::follow` only until the load has begun. With `order.arriving` never for bytes that
/// are still on their way: what cannot be done without them fails. Where one of `twins` is what
/// `order` would load to `order.home`, of the files the headers alone are read.
opened_model open_model_files(const load_order& order, const open_progress& progress,
                              const std::shared_ptr<storage::weight_tiers>& tiers = {},
                              const std::shared_ptr<peer_plane>& peers = {},
                              const std::shared_ptr<engine::weight_twins>& twins = {});

/// Where a load by `order` would get a model's weights from, whose files are at `dir`, once others
/// have brought `coming_bytes` into the host pool; nothing if those files cannot be opened. Reads
/// headers alone, but blocks for those.
std::optional<policies::tier_bytes>
survey_model_files(const load_order& order, const std::string& dir,
                   const std::shared_ptr<storage::weight_tiers>& tiers,
                   const std::shared_ptr<engine::weight_twins>& twins, uint64_t coming_bytes);

/// A `stager_setup::prefetch` into the pool of `tiers`, which may be null.
std::function<std::shared_ptr<staged_model>(const std::string& dir, double rate)>
make_prefetch(std::shared_ptr<storage::weight_tiers> tiers);

/// Devices that a model may be loaded onto; none = one that takes every type of weight.
using model_devices = std::span<const std::shared_ptr<gpu::device>>;

/// Bytes of a GGUF model's weights as an engine keeps them, on whichever device they take most:
/// blocks that a device does not take are decoded for it. Reads the head alone.
caf::expected<uint64_t> gguf_weight_bytes(const std::string& path, engine::quantization quantize,
                                          model_devices devices = {});

/// Reads a model's tokenizer, templates and configuration from `dir`, and what its engine will take
/// on whichever of `devices` it takes most. Blocks.
caf::expected<model_text> load_model_text(const model_card& card, const std::string& dir,
                                          model_devices devices = {});

} // namespace troupe::actors
