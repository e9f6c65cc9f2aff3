#include "cli/node_setup.hpp"

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include <unistd.h>

#include "actors/log.hpp"
#include "cli/model_choice.hpp"
#include "cli/pull_setup.hpp"
#include "cli/remote_models.hpp"
#include "config/errors.hpp"
#include "gpu/cpu/host_limits.hpp"
#include "storage/gguf_files.hpp"
#include "storage/store/model_fetcher.hpp"

namespace troupe::cli {

namespace {

actors::node_role role_of(const std::string& name) {
  return name == "head"     ? actors::node_role::head
         : name == "worker" ? actors::node_role::worker
                            : actors::node_role::all;
}

engine::quantization quantization_of(const std::string& name) {
  return name == "int8"   ? engine::quantization::int8
         : name == "int4" ? engine::quantization::int4
                          : engine::quantization::none;
}

std::chrono::milliseconds keep_alive_of(std::chrono::milliseconds set) {
  return set == config::keep_alive_auto ? std::chrono::milliseconds{actors::auto_keep_alive} : set;
}

/// None = as the weights are.
std::optional<dtype> kv_type_of(const std::string& name) {
  return name == "f32"    ? std::optional{dtype::f32}
         : name == "bf16" ? std::optional{dtype::bf16}
         : name == "int8" ? std::optional{dtype::i8}
                          : std::nullopt;
}

gpu::products products_of(const std::string& name) {
  return name == "fastest" ? gpu::products::fastest : gpu::products::invariant;
}

/// Where the draft model that `name` means is: a path, or one of `models`.
caf::expected<std::filesystem::path> draft_dir(const std::string& name,
                                               const std::vector<storage::model_source>& models,
                                               const config::settings& settings) {
  std::error_code ignored;
  if (std::filesystem::is_directory(name, ignored) ||
      (storage::is_gguf(name) && std::filesystem::exists(name, ignored)))
    return std::filesystem::absolute(name, ignored).lexically_normal();
  const auto model = choose_model(models, settings, name);
  if (!model)
    return caf::make_error(config::errc::invalid_value,
                           "looking for the draft model " + name + ": " + describe(model.error()));
  if (model->dir.empty())
    return caf::make_error(
        config::errc::invalid_value,
        "the draft model " + name +
            " is not on this machine; get it with: "
            "troupe pull " +
            storage::without_credentials(model->origin.substr(0, model->origin.find('\n'))));
  return model->dir;
}

/// Finds the draft models of `found.models` among `models`. A draft model has none itself.
caf::error find_drafts(const config::settings& settings,
                       const std::vector<storage::model_source>& models, served_models& found) {
  for (const auto& model : found.models) {
    const auto name = config::settings_for(settings, model.id.text)
                          .draft_model.value_or(settings.engine.draft_model);
    if (name.empty())
      continue;
    const auto dir = draft_dir(name, models, settings);
    if (!dir)
      return dir.error();
    std::error_code ignored;
    if (!std::filesystem::equivalent(*dir, model.dir, ignored))
      found.drafts.emplace(model.id, *dir);
  }
  return {};
}

/// The user's cache directory, by the XDG base directory specification; empty if there is none.
std::filesystem::path cache_directory() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && *cache == '/')
    return std::filesystem::path{cache} / "troupe";
  const char* home = std::getenv("HOME");
  return home != nullptr && *home == '/' ? std::filesystem::path{home} / ".cache/troupe"
                                         : std::filesystem::path{};
}

actors::storage_options storage_options_of(const config::storage_settings& settings) {
  if (settings.pool == "off")
    return {};
  const std::filesystem::path directory = settings.pool == "on" ? "/dev/shm" : settings.pool;
  const auto cache = cache_directory();
  const auto bytes_of = [](const config::memory_amount& x) {
    return x.percent == 0 ? x.bytes : gpu::cpu::host_memory_bytes() / 100 * x.percent;
  };
  return {.pool = directory / ("troupe-pool-" + std::to_string(::geteuid())),
          .pool_bytes = bytes_of(settings.pool_memory),
          .ready_bytes = bytes_of(settings.pool_ready),
          .pinned_bytes_max = bytes_of(settings.pool_pinned),
          .checksums = cache.empty() ? cache : cache / "checksums",
          .prefetch = settings.prefetch,
          .stand_ins = cache.empty() ? cache : cache / "peers"};
}

} // namespace

bool within(const std::filesystem::path& dir, const std::vector<std::string>& named) {
  std::error_code ignored;
  const auto whole = std::filesystem::weakly_canonical(dir, ignored).string() + "/";
  return std::ranges::any_of(named, [&](const std::string& one) {
    if (storage::is_gguf(one)) // any file of a model stands for the model
      return dir == std::filesystem::absolute(storage::gguf_parts(one).front(), ignored)
                        .lexically_normal();
    return std::filesystem::is_directory(one, ignored) &&
           whole.starts_with(std::filesystem::canonical(one, ignored).string() + "/");
  });
}

caf::expected<served_models> find_served(const config::settings& settings,
                                         std::vector<std::string> named, bool named_alone) {
  std::vector<std::filesystem::path> roots;
  std::vector<std::string> ids;
  std::error_code ignored;
  std::vector<storage::model_source> chosen;
  const auto how = pull_setup_of(settings);
  for (auto& one : named) {
    if (storage::is_url(one)) {
      const auto from = storage::parse_location(one);
      if (!from)
        return from.error();
      if (from->kind != storage::location_kind::file) {
        chosen.push_back(model_at({*from, {}}, from->model_name, how));
        continue;
      }
      one = from->path.string();
    }
    if (std::filesystem::is_directory(one, ignored) ||
        (storage::is_gguf(one) && std::filesystem::exists(one, ignored)))
      roots.emplace_back(one);
    else
      ids.push_back(one);
  }
  for (const auto& dir : settings.model_dirs) {
    if (!std::filesystem::is_directory(dir, ignored))
      return caf::make_error(config::errc::invalid_value,
                             "model_dirs names " + dir + ", which is no directory");
    roots.emplace_back(dir);
  }
  if (roots.empty() && std::filesystem::is_directory("models", ignored))
    roots.emplace_back("models");
  if (settings.hub_cache == "on") {
    if (const auto hub = storage::default_hub_cache())
      roots.push_back(*hub);
  } else if (settings.hub_cache != "off") {
    roots.emplace_back(settings.hub_cache);
  }
  if (const auto store = store_dir_of(settings); std::filesystem::is_directory(store, ignored))
    roots.push_back(store);
  served_models found{storage::find_models(roots), {}};
  auto configured = configured_models(settings, found.models);
  if (!configured)
    return std::move(configured.error());
  found.models.insert(found.models.end(), configured->begin(), configured->end());
  const auto everything = found.models;
  if (ids.empty() && chosen.empty() && !named_alone) {
    if (auto why = find_drafts(settings, everything, found))
      return why;
    return found;
  }
  for (const auto& id : ids) {
    auto model = choose_model(found.models, settings, id);
    if (!model)
      return model.error();
    if (std::ranges::find(chosen, model->id, &storage::model_source::id) == chosen.end())
      chosen.push_back(std::move(*model));
  }
  // Directories that were named are served whole, whatever else was named beside them.
  for (auto& model : found.models)
    if (within(model.dir, named) &&
        std::ranges::find(chosen, model.id, &storage::model_source::id) == chosen.end())
      chosen.push_back(std::move(model));
  found.models = std::move(chosen);
  if (auto why = find_drafts(settings, everything, found))
    return why;
  return found;
}

actors::node_options node_options_of(const config::settings& settings,
                                     const served_models& served) {
  const auto& models = served.models;
  actors::node_options out;
  out.role = role_of(settings.role);
  out.keep_alive = keep_alive_of(settings.keep_alive);
  out.devices = settings.devices;
  out.memory_limit_bytes = settings.memory_limit.bytes;
  out.memory_limit_percent = settings.memory_limit.percent;
  out.threads = settings.threads;
  out.float32 = settings.precision == "float32";
  out.queue_max = settings.queue_max;
  out.load_timeout = settings.load_timeout;
  out.request_history = settings.request_history;
  out.node_name = settings.node_name;
  out.kv_memory_bytes = settings.engine.kv_memory.bytes;
  out.kv_memory_percent = settings.engine.kv_memory.percent;
  out.engine.kv_bytes = engine::kv_bytes_all;
  out.engine.block_size = settings.engine.block_size;
  out.engine.sequences_max = settings.engine.sequences_max;
  out.engine.step_tokens_max = settings.engine.step_tokens_max;
  out.engine.context_max = settings.engine.context_max;
  out.engine.reuse_prefixes = settings.engine.prefix_cache;
  out.engine.draft_tokens_max = settings.engine.draft_tokens_max;
  out.engine.quantize = quantization_of(settings.engine.quantize);
  out.engine.kv_type = kv_type_of(settings.engine.kv_type);
  out.products = products_of(settings.engine.products);
  out.engine.step_target = settings.engine.step_target;
  out.engine.swap_bytes = settings.engine.swap_bytes;
  out.storage = storage_options_of(settings.storage);
  out.cluster_listen = settings.cluster.listen;
  out.join = settings.cluster.join;
  out.data_listen = settings.cluster.data_listen;
  out.data_rate = settings.cluster.data_rate;
  out.same_paths = settings.cluster.same_paths;
  // For models that are not here, and for damaged files of those that are.
  auto fetching = pull_setup_of(settings);
  fetching.warn = actors::log_warning;
  out.fetcher = std::make_shared<storage::model_fetcher>(std::move(fetching));
  for (const auto& model : models) {
    const auto given = config::settings_for(settings, model.id.text);
    actors::model_settings one;
    if (given.keep_alive)
      one.keep_alive = keep_alive_of(*given.keep_alive);
    one.pinned = given.pinned.value_or(false);
    one.preload = given.preload.value_or(false);
    one.replicas = given.replicas.value_or(1);
    one.kv_bytes = given.kv_bytes;
    one.context_max = given.context_max;
    if (given.quantize)
      one.quantize = quantization_of(*given.quantize);
    if (given.kv_type)
      one.kv_type = kv_type_of(*given.kv_type);
    if (const auto draft = served.drafts.find(model.id); draft != served.drafts.end())
      one.draft_dir = draft->second.string();
    one.aliases = given.aliases.value_or(std::vector<std::string>{});
    out.settings.emplace(model.id, std::move(one));
  }
  out.models = models;
  return out;
}

gateway::server_options server_options_of(const config::settings& settings) {
  gateway::server_options out;
  out.host = settings.listen.host;
  out.port = settings.listen.port;
  out.serves = settings.admin && !settings.admin_listen ? gateway::surface::everything
                                                        : gateway::surface::api;
  out.metrics_open = !settings.metrics_key;
  out.body_bytes_max = settings.limits.body_bytes;
  out.header_bytes_max = static_cast<uint32_t>(settings.limits.header_bytes);
  out.connections_max = settings.limits.connections;
  out.read_timeout = settings.limits.read_timeout;
  out.write_timeout = settings.limits.write_timeout;
  out.sse_silence_max = settings.limits.sse_silence;
  out.request_timeout = settings.limits.request_timeout;
  out.n_max = settings.limits.n_max;
  return out;
}

} // namespace troupe::cli
