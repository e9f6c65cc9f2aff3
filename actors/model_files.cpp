#include "actors/model_files.hpp"

#include "actors/pooled_files.hpp"
#include "actors/weight_views.hpp"
#include "engine/errors.hpp"
#include "engine/frontend/frontend.hpp"
#include "engine/gguf/config.hpp"
#include "engine/gguf/frontend.hpp"
#include "engine/gguf/weights.hpp"
#include "engine/model/packed_weights.hpp"
#include "engine/model/weights.hpp"
#include "storage/checkpoint.hpp"
#include "storage/checkpoint_identity.hpp"
#include "storage/errors.hpp"
#include "storage/gguf_files.hpp"
#include "storage/pipeline/mapped_check.hpp"
#include "storage/pipeline/prefetch.hpp"
#include "storage/pipeline/tier_survey.hpp"
#include "storage/store/arrival.hpp"
#include "storage/store/in_use.hpp"

namespace troupe::actors {

namespace {

using checkpoint_ptr = std::shared_ptr<const storage::checkpoint>;

/// A model whose headers were read.
struct model_parts {
  checkpoint_ptr files;
  engine::model_config config;
  weight_form form; ///< refers to nothing here
};

/// The head of a GGUF model, and its tensors as they lie in its files.
struct gguf_parts {
  storage::gguf_head head;
  checkpoint_ptr files;
  engine::weight_lookup tensors;
  std::string path;

  engine::gguf_source source() const { return {head.header().values, tensors, path}; }
};

using arriving_ptr = std::shared_ptr<const storage::arriving_model>;

/// Where files lie that are not all here.
storage::file_places places_of(const arriving_ptr& arriving) {
  if (!arriving)
    return nullptr;
  return [arriving](const std::filesystem::path& file) { return arriving->elsewhere(file); };
}

caf::expected<gguf_parts> open_gguf(const std::string& path, const arriving_ptr& arriving = {}) {
  const auto places = places_of(arriving);
  auto head = storage::gguf_head::read_first(
      path, places ? places(storage::gguf_parts(path).front()) : std::filesystem::path{});
  if (!head)
    return head.error();
  auto files = storage::checkpoint::open(path, places);
  if (!files)
    return files.error();
  return gguf_parts{std::move(*head), *files, weight_views(**files), path};
}

caf::expected<model_parts> gguf_model(const std::string& path, const arriving_ptr& arriving) {
  const auto gguf = open_gguf(path, arriving);
  if (!gguf)
    return gguf.error();
  auto config = engine::gguf_model_config(gguf->source());
  if (!config)
    return config.error();
  model_parts out{gguf->files, std::move(*config), {}};
  // Which tensors those are, the lookup itself tells.
  const auto asks = engine::gguf_weights(
      out.config, [&](std::string_view name) -> std::optional<engine::weight_view> {
        out.form.names.emplace_back(name);
        return std::nullopt;
      });
  for (const auto& want : engine::weight_plan(out.config))
    asks(want.name);
  out.form.wrap = [config = out.config](engine::weight_lookup tensors) {
    return caf::expected{engine::gguf_weights(config, std::move(tensors))};
  };
  return out;
}

/// For a model that has to be here whole first.
caf::error not_yet(const std::string& path) {
  return caf::make_error(storage::errc::not_downloaded, path + ": not all of it is here yet");
}

caf::expected<model_parts> directory_model(const std::string& path, const arriving_ptr& arriving) {
  auto config = engine::load_model_config(path);
  if (!config)
    return config.error();
  auto files = storage::checkpoint::open(path, places_of(arriving));
  if (!files)
    return files.error();
  model_parts out{*files, std::move(*config), {}};
  // What is still on its way cannot be looked into: it is taken for what the configuration says.
  const auto trust = arriving ? engine::packed_trust::declared : engine::packed_trust::found;
  out.form.names = engine::packed_names(
      out.config, [&](std::string_view name) { return out.files->find(name).has_value(); }, trust);
  out.form.in_order = engine::packed_in_order(out.config);
  out.form.wrap = [config = out.config, trust](engine::weight_lookup tensors) {
    return engine::packed_weights(config, std::move(tensors), trust);
  };
  return out;
}

caf::expected<model_parts> open_model(const std::string& path, const arriving_ptr& arriving = {}) {
  return storage::is_gguf(path) ? gguf_model(path, arriving) : directory_model(path, arriving);
}

/// Keeps `weights`, and lets whoever removes models see that this one is in use.
std::shared_ptr<const void> held(std::shared_ptr<const void> weights, const std::string& dir) {
  using both = std::pair<std::shared_ptr<const void>, std::shared_ptr<const void>>;
  return std::make_shared<both>(std::move(weights), storage::hold_model(dir));
}

policies::tier_bytes bytes_of(const storage::tier_survey& found) {
  policies::tier_bytes out{};
  const auto set = [&](policies::load_tier tier, uint64_t bytes) {
    out[static_cast<size_t>(tier)] = static_cast<double>(bytes);
  };
  set(policies::load_tier::disk, found.disk);
  set(policies::load_tier::pool, found.pool);
  set(policies::load_tier::paged, found.paged);
  set(policies::load_tier::cached, found.cached);
  return out;
}

using twins_ptr = std::shared_ptr<engine::weight_twins>;

/// What another device of this machine has for the device of `order`; nothing if there is none.
std::optional<policies::tier_bytes> at_twin(const load_order& order, const std::string& checkpoint,
                                            const twins_ptr& twins) {
  const auto bytes =
      twins ? twins->bytes_to_copy({checkpoint, order.options.quantize}, order.home) : std::nullopt;
  if (!bytes)
    return std::nullopt;
  policies::tier_bytes out{};
  out[static_cast<size_t>(policies::load_tier::device)] = static_cast<double>(*bytes);
  return out;
}

/// Brings weights into memory where they are mapped.
caf::expected<opened_weights> open_mapped(const model_parts& model, const open_progress& progress,
                                          const std::shared_ptr<storage::weight_tiers>& tiers) {
  // Before anybody has read them: from the page cache, or through it.
  const auto whence = bytes_of(storage::survey_mapped(*model.files));
  auto why =
      tiers ? storage::warm_verified(*tiers, *model.files, progress) : model.files->warm(progress);
  if (why)
    return why;
  // Looks into tensors, so they had better be in memory.
  auto lookup = model.form.wrap(weight_views(*model.files));
  if (!lookup)
    return lookup.error();
  return opened_weights{.lookup = std::move(*lookup),
                        .keep_alive = model.files,
                        .whence = [whence] { return whence; }};
}

caf::expected<opened_weights> open_weights(const model_parts& model, const load_order& order,
                                           const open_progress& progress,
                                           const std::shared_ptr<storage::weight_tiers>& tiers,
                                           const found_model& found) {
  if (!order.arriving && !progress(0, model.files->size_bytes()))
    return caf::make_error(storage::errc::cancelled, "the load was cancelled");
  // What is not on this machine cannot be mapped.
  if (tiers && (!order.mapped || (found.from && found.from->alone))) {
    auto pooled = open_pooled(tiers, model.files, model.form, order.arriving, found);
    if (!pooled)
      return pooled.error();
    if (*pooled)
      return std::move(**pooled);
  }
  if (order.arriving)
    return not_yet(order.dir);
  return open_mapped(model, progress, tiers);
}

/// Follows one load, then another, and counts their bytes together.
std::function<void(const open_progress&)> both(const opened_weights& first,
                                               const opened_weights& second) {
  if (!first.follow && !second.follow)
    return nullptr;
  const auto before = first.total_bytes, total = before + second.total_bytes;
  return [=, one = first.follow, other = second.follow](const open_progress& progress) {
    if (one)
      one([&](uint64_t done, uint64_t) { return progress(done, total); });
    if (other)
      other([&](uint64_t done, uint64_t) { return progress(before + done, total); });
  };
}

} // namespace

opened_model open_model_files(const load_order& order, const open_progress& progress,
                              const std::shared_ptr<storage::weight_tiers>& tiers,
                              const std::shared_ptr<peer_plane>& peers, const twins_ptr& twins) {
  opened_model out;
  const auto open = [&](const std::string& dir, std::shared_ptr<const engine::model_config>& config,
                        uint64_t& bytes, const load_order& how) -> caf::expected<opened_weights> {
    const auto found = peers && !how.arriving
                           ? peers->find(how, dir)
                           : caf::expected<found_model>{found_model{.path = dir}};
    if (!found)
      return found.error();
    auto model = open_model(found->path, how.arriving);
    if (!model)
      return model.error();
    bytes += model->files->size_bytes();
    const auto checkpoint = storage::identity_of(*model->files, found->path, how.arriving.get());
    const auto lent = at_twin(how, checkpoint, twins);
    auto weights =
        lent ? caf::expected{opened_weights{.lookup = {}, .whence = [lent] { return *lent; }}}
             : open_weights(*model, how, progress, tiers, *found);
    if (weights) {
      weights->checkpoint = checkpoint;
      weights->keep_alive = held(std::move(weights->keep_alive), found->path);
    }
    config = std::make_shared<const engine::model_config>(std::move(model->config));
    return weights;
  };
  auto own = open(order.dir, out.config, out.weight_bytes, order);
  if (!own) {
    out.why = own.error();
    return out;
  }
  opened_weights small;
  if (!order.draft_dir.empty()) {
    auto draft = std::make_shared<engine::draft_source>();
    auto here = order; // a draft model is never fetched
    here.arriving = nullptr;
    here.origin.clear();
    auto opened = open(order.draft_dir, draft->config, out.weight_bytes, here);
    if (!opened) {
      out.why = opened.error();
      return out;
    }
    small = std::move(*opened);
    draft->lookup = small.lookup;
    draft->checkpoint = small.checkpoint;
    draft->keep_alive = small.keep_alive;
    out.draft = std::move(draft);
  }
  out.follow = both(*own, small);
  out.whence = [one = own->whence, other = small.whence] {
    auto bytes = one();
    const auto more = other ? other() : policies::tier_bytes{};
    for (size_t i = 0; i < bytes.size(); ++i)
      bytes[i] += more[i];
    return bytes;
  };
  out.lookup = std::move(own->lookup);
  out.checkpoint = std::move(own->checkpoint);
  out.keep_alive = std::move(own->keep_alive);
  return out;
}

std::optional<policies::tier_bytes>
survey_model_files(const load_order& order, const std::string& dir,
                   const std::shared_ptr<storage::weight_tiers>& tiers, const twins_ptr& twins,
                   uint64_t coming_bytes) {
  const auto model = open_model(dir);
  if (!model)
    return std::nullopt;
  if (const auto lent = at_twin(order, storage::identity_of(*model->files, dir), twins))
    return lent;
  return bytes_of(tiers ? storage::survey(*tiers, *model->files, model->form.names, coming_bytes)
                        : storage::survey_mapped(*model->files));
}

namespace {

class pool_bound final : public staged_model {
public:
  explicit pool_bound(std::unique_ptr<storage::prefetch> work) : work_{std::move(work)} {}
  bool is_over() const override { return work_->is_over(); }

private:
  std::unique_ptr<storage::prefetch> work_;
};

} // namespace

std::function<std::shared_ptr<staged_model>(const std::string& dir, double rate)>
make_prefetch(std::shared_ptr<storage::weight_tiers> tiers) {
  return [tiers = std::move(tiers)](const std::string& dir,
                                    double rate) -> std::shared_ptr<staged_model> {
    if (!tiers)
      return nullptr;
    const auto model = open_model(dir);
    if (!model)
      return nullptr;
    const auto worth = rate * tiers->pipeline().reload_seconds(tiers->chunk_bytes());
    auto work = storage::prefetch::start(*tiers, *model->files, model->form.names, worth,
                                         std::chrono::steady_clock::now());
    if (!work || !*work)
      return nullptr;
    return std::make_shared<pool_bound>(std::move(*work));
  };
}

namespace {

using frontend_ptr = std::shared_ptr<const engine::frontend>;

model_text text_of(const model_card& card, const frontend_ptr& frontend,
                   const engine::engine_memory& memory) {
  return {make_text_side(frontend, card.options.context_max), frontend, footprint_of(memory)};
}

/// Of several the one on which steps take most: where tokens are chosen, too. Null if none is
/// known.
const gpu::device* widest(model_devices devices) {
  const auto at = std::ranges::find_if(devices, [](const auto& x) { return x->chooses(); });
  return at != devices.end() ? at->get() : devices.empty() ? nullptr : devices.front().get();
}

/// Bytes of the weights that `lookup` gives, which say how large they will be.
uint64_t kept_on(model_devices devices, const engine::model_config& config,
                 const engine::weight_lookup& lookup, engine::quantization quantize) {
  if (devices.empty())
    return engine::kept_bytes(config, lookup, quantize);
  uint64_t out = 0;
  for (const auto& device : devices)
    out = std::max(out, engine::kept_bytes(config, lookup, quantize, device.get()));
  return out;
}

/// What an engine takes over those weights.
engine::engine_memory memory_with(const engine::model_config& config,
                                  const engine::weight_lookup& lookup,
                                  engine::engine_options options, model_devices devices) {
  const auto weights = kept_on(devices, config, lookup, options.quantize);
  options.quantize = engine::quantization::none; // counted already
  return engine::estimate_memory(config, weights, options, widest(devices));
}

caf::expected<model_text> gguf_text(const model_card& card, const std::string& path,
                                    model_devices devices) {
  const auto gguf = open_gguf(path);
  if (!gguf)
    return gguf.error();
  auto frontend = engine::load_gguf_frontend(gguf->source(), card.source.id.text);
  if (!frontend)
    return frontend.error();
  const auto& config = (*frontend)->config;
  const auto lookup = engine::gguf_weights(config, gguf->tensors);
  return text_of(card, *frontend, memory_with(config, lookup, card.options, devices));
}

caf::expected<engine::engine_memory> packed_memory(const engine::model_config& config,
                                                   const model_card& card, const std::string& dir,
                                                   model_devices devices) {
  const auto files = storage::checkpoint::open(dir);
  if (!files && files.error() == storage::errc::not_found && !card.source.origin.empty())
    return memory_with(config, engine::declared_weights(config), card.options, devices);
  if (!files)
    return files.error();
  const auto lookup = engine::packed_weights(config, weight_views(**files));
  if (!lookup)
    return lookup.error();
  return memory_with(config, *lookup, card.options, devices);
}

caf::expected<frontend_ptr> frontend_of(const std::string& path) {
  if (!storage::is_gguf(path))
    return engine::load_frontend(path, path);
  const auto gguf = open_gguf(path);
  if (!gguf)
    return gguf.error();
  return engine::load_gguf_frontend(gguf->source(), path);
}

/// Bytes of a draft model's weights. Those of a directory are estimated by its files.
caf::expected<uint64_t> draft_bytes(const model_card& card, model_devices devices) {
  if (storage::is_gguf(card.draft_dir))
    return gguf_weight_bytes(card.draft_dir, engine::quantization::none, devices);
  const auto files = storage::checkpoint::open(card.draft_dir);
  if (!files)
    return files.error();
  return (*files)->size_bytes();
}

/// Checks that the card's draft model reads text as `large` does, and counts its bytes in.
caf::error add_draft(const model_card& card, const engine::frontend& large, model_devices devices,
                     model_text& to) {
  const auto small = frontend_of(card.draft_dir);
  if (!small)
    return small.error();
  // Letters of several scripts, digits, spaces, code: what families of tokenizers differ in.
  constexpr std::string_view probe = "The quick brown foxes' 1234567 jumps,\n\n  naïve Straße 東京 "
                                     "Привет 🙂 { int x_1 = -0.5; }";
  const auto ids = large.tokens->encode(probe, false),
             theirs = (*small)->tokens->encode(probe, false);
  if (ids != theirs)
    return caf::make_error(engine::errc::invalid_argument,
                           "the draft model " + card.draft_dir + " has another tokenizer than " +
                               card.source.id.text +
                               ", so it cannot guess for it; choose one of the same family");
  const auto bytes = draft_bytes(card, devices);
  if (!bytes)
    return bytes.error();
  const auto more =
      engine::estimate_draft_memory((*small)->config, *bytes, card.options, widest(devices));
  to.takes += footprint_of(more);
  return {};
}

caf::expected<model_text> own_text(const model_card& card, const std::string& dir,
                                   model_devices devices) {
  if (storage::is_gguf(dir))
    return gguf_text(card, dir, devices);
  auto frontend = engine::load_frontend(dir, card.source.id.text);
  if (!frontend)
    return frontend.error();
  const auto& config = (*frontend)->config;
  if (!config.packed)
    return text_of(
        card, *frontend,
        engine::estimate_memory(config, card.weight_bytes(), card.options, widest(devices)));
  const auto memory = packed_memory(config, card, dir, devices);
  if (!memory)
    return memory.error();
  return text_of(card, *frontend, *memory);
}

} // namespace

caf::expected<uint64_t> gguf_weight_bytes(const std::string& path, engine::quantization quantize,
                                          model_devices devices) {
  const auto gguf = open_gguf(path);
  if (!gguf)
    return gguf.error();
  const auto config = engine::gguf_model_config(gguf->source());
  if (!config)
    return config.error();
  return kept_on(devices, *config, engine::gguf_weights(*config, gguf->tensors), quantize);
}

caf::expected<model_text> load_model_text(const model_card& card, const std::string& dir,
                                          model_devices devices) {
  auto out = own_text(card, dir, devices);
  if (out && !card.draft_dir.empty())
    if (auto why = add_draft(card, *out->frontend, devices, *out))
      return why;
  return out;
}

} // namespace troupe::actors
