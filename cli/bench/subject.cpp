#include "cli/bench/subject.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <iostream>
#include <set>

#include "actors/devices.hpp"
#include "actors/model_files.hpp"
#include "cli/bench/machine.hpp"
#include "cli/bench/random_weights.hpp"
#include "cli/bench/shapes.hpp"
#include "config/errors.hpp"
#include "config/keys.hpp"
#include "config/units.hpp"
#include "engine/errors.hpp"
#include "engine/model/weights.hpp"
#include "storage/sources/location.hpp"

namespace troupe::cli::bench {
namespace {

uint64_t elements(const std::vector<int64_t>& shape) {
  uint64_t out = 1;
  for (const auto side : shape)
    out *= static_cast<uint64_t>(side);
  return out;
}

double as_double(int64_t count) { return static_cast<double>(count); }

/// Products for each row: all matrices but the projection to the vocabulary.
double layer_parameters(const engine::model_config& config) {
  double sum = 0;
  for (const auto& spec : engine::weight_plan(config))
    if (spec.shape.size() == 2 && spec.shape[0] != config.vocab_size)
      sum += static_cast<double>(elements(spec.shape));
  return sum;
}

double head_parameters(const engine::model_config& config) {
  return as_double(config.vocab_size * config.hidden_size);
}

/// Positions that one row's attention visits in all layers, `context` of them in the cache.
double visited(const engine::model_config& config, double context) {
  double sum = 0;
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    const auto window = config.windows.empty() ? 0 : config.windows[static_cast<size_t>(layer)];
    sum += window > 0 ? std::min(context, as_double(window)) : context;
  }
  return sum;
}

/// Bytes of the embedding where it is only looked up, so that a step does not read it.
uint64_t looked_up_bytes(const engine::model_config& config, dtype type, const std::string& kept) {
  const bool apart = !config.tied_embeddings || quantization_of(kept) != engine::quantization::none;
  return apart ? bytes_of(type, static_cast<uint64_t>(config.vocab_size * config.hidden_size)) : 0;
}

uint64_t kv_bytes_of_token(const engine::model_config& config, dtype type) {
  return static_cast<uint64_t>(2 * config.layers * config.kv_size()) *
         (type == dtype::f32 ? sizeof(float) : sizeof(uint16_t));
}

/// An error if `needed` bytes are not free; `beside` = bytes of the host that are needed for a
/// while only.
caf::error check_memory(const std::string& what, const engine::engine_memory& needed,
                        uint64_t beside, const gpu::device& device) {
  const bool host = device.reads_host_memory();
  const auto all =
      needed.weights_bytes + needed.kv_bytes + needed.workspace_bytes + (host ? beside : 0);
  const auto free = host ? free_memory_bytes() : device.memory_bytes();
  if (all <= free)
    return {};
  const auto text = config::format_size_rounded;
  return caf::make_error(engine::errc::out_of_memory,
                         what + " needs " + text(all) + " (weights " + text(needed.weights_bytes) +
                             ", keys and values " + text(needed.kv_bytes) + ", workspace " +
                             text(needed.workspace_bytes) + ", while loading " + text(beside) +
                             "), but " + text(free) +
                             " are free: take a smaller --dtype, --batch or --context, or a "
                             "smaller model");
}

/// Makes the engine over weights of `type`, once its size is known to fit.
caf::error make_engine(subject& to, const options& given, const engine::weight_lookup& lookup,
                       std::shared_ptr<const void> keep_alive, dtype type,
                       uint64_t checkpoint_bytes, uint64_t beside) {
  to.kv_token_bytes = kv_bytes_of_token(to.config, type);
  const auto how = engine_options_of(given, to.dtype, to.kv_token_bytes);
  if (auto why =
          check_memory(to.model + " in " + to.dtype,
                       engine::estimate_memory(to.config, checkpoint_bytes, how, to.device.get()),
                       beside, *to.device))
    return why;
  auto made = engine::engine::create(to.config, lookup, std::move(keep_alive), *to.device, how);
  if (!made)
    return made.error();
  to.engine = std::move(*made);
  to.weight_bytes = to.engine->memory().weights_bytes - looked_up_bytes(to.config, type, to.dtype);
  return {};
}

caf::error bind_shape(subject& to, const options& given) {
  if (to.dtype.empty())
    to.dtype = "bf16";
  const auto type = stored_type(to.dtype);
  auto config = engine::parse_model_config(config_json(*find_shape(to.model), type), to.model);
  if (!config)
    return config.error();
  to.config = std::move(*config);
  auto weights = random_weights::create(to.config, type, given.threads);
  if (!weights)
    return weights.error();
  const bool copies = quantization_of(to.dtype) != engine::quantization::none;
  return make_engine(
      to, given, [from = *weights](std::string_view name) { return from->find(name); }, *weights,
      type, (*weights)->size_bytes(), copies ? (*weights)->largest_bytes() : 0);
}

caf::error bind_files(subject& to, const options& given, const std::string& path) {
  const auto opened =
      actors::open_model_files({{to.model}, path, {}}, [](uint64_t, uint64_t) { return true; });
  if (opened.why)
    return opened.why;
  to.config = *opened.config;
  const auto embedding = opened.lookup("model.embed_tokens.weight");
  const auto type = embedding ? embedding->type : dtype::bf16;
  if (to.dtype.empty())
    to.dtype = to_string(type);
  else if (quantization_of(to.dtype) == engine::quantization::none && to.dtype != to_string(type))
    return caf::make_error(config::errc::invalid_value,
                           path + " holds " + std::string{to_string(type)} +
                               " weights and cannot be run in " + to.dtype +
                               ": leave --dtype out, or take int8 or int4");
  return make_engine(to, given, opened.lookup, opened.keep_alive, type, opened.weight_bytes, 0);
}

} // namespace

engine::quantization quantization_of(const std::string& dtype) {
  return dtype == "int8"   ? engine::quantization::int8
         : dtype == "int4" ? engine::quantization::int4
                           : engine::quantization::none;
}

dtype stored_type(const std::string& dtype) {
  return dtype == "f32" ? dtype::f32 : dtype == "f16" ? dtype::f16 : dtype::bf16;
}

step_work subject::decode_work(uint32_t batch, double context) const {
  const auto keys = visited(config, context);
  return {static_cast<double>(weight_bytes) +
              batch * keys / as_double(config.layers) * static_cast<double>(kv_token_bytes),
          batch * (2 * (layer_parameters(config) + head_parameters(config)) +
                   4 * keys * as_double(config.q_size()))};
}

step_work subject::prefill_work(uint32_t tokens, uint32_t step_tokens) const {
  const double steps = std::ceil(static_cast<double>(tokens) / step_tokens);
  double keys = 0;
  for (uint32_t at = 1; at <= tokens; ++at)
    keys += visited(config, at);
  return {steps * static_cast<double>(weight_bytes), tokens * 2.0 * layer_parameters(config) +
                                                         2 * head_parameters(config) +
                                                         4 * keys * as_double(config.q_size())};
}

std::string subject::arithmetic() const {
  if (!device->reads_host_memory()) // all is rounded to bf16 there
    return dtype == "f32" || dtype == "f16" ? "f32" : "bf16";
  // Blocks of a file ("q4_k") are multiplied as bytes too.
  const bool bytes = dtype == "int8" || dtype == "int4" || dtype.starts_with("q");
  return bytes ? "int8" : dtype == "bf16" ? "bf16" : "f32";
}

caf::expected<model_choice> choose(const std::string& model) {
  if (find_shape(model))
    return model_choice{model, ""};
  std::error_code ignored;
  const bool file = model.ends_with(".gguf") && std::filesystem::is_regular_file(model, ignored);
  if (file || std::filesystem::is_directory(model, ignored))
    return model_choice{std::filesystem::weakly_canonical(model, ignored).filename().string(),
                        model};
  std::vector<std::string_view> names;
  for (const auto& one : all_shapes())
    names.push_back(one.name);
  const auto near = config::closest(model, names);
  return caf::make_error(
      config::errc::invalid_value,
      "'" + storage::without_credentials(model) +
          "' is neither a model (a directory or a GGUF file) nor a known shape: " +
          (near.empty() ? "`troupe bench --list` shows the shapes"
                        : "did you mean '" + std::string{near} + "'?"));
}

std::optional<int> cuda_ordinal(const std::string& device) {
  constexpr std::string_view prefix = "cuda:";
  int ordinal = 0;
  if (!device.starts_with(prefix))
    return std::nullopt;
  const auto* end = device.data() + device.size();
  const auto read = std::from_chars(device.data() + prefix.size(), end, ordinal);
  return read.ptr == end && read.ec == std::errc{} ? std::optional{ordinal} : std::nullopt;
}

caf::expected<std::unique_ptr<gpu::device>> make_device(const options& given) {
  gpu::device_options how;
  how.threads = given.threads;
  how.isa = given.isa;
  how.wide = given.products == "fastest" ? gpu::products::fastest : gpu::products::invariant;
  how.warn = [](const std::string& what) {
    static std::set<std::string> said; // each device of a run would say the same
    if (said.insert(what).second)
      std::cerr << "troupe bench: " << what << std::endl;
  };
  auto opened = actors::open_devices({given.device}, how);
  if (!opened)
    return opened.error();
  return std::move(opened->front().device);
}

engine::engine_options engine_options_of(const options& given, const std::string& dtype,
                                         uint64_t kv_token_bytes) {
  engine::engine_options out;
  const auto most = [](const std::vector<uint32_t>& of) {
    return of.empty() ? 1 : *std::ranges::max_element(of);
  };
  out.quantize = quantization_of(dtype);
  // What repeats by chance would count as speed.
  out.reuse_prefixes = false;
  out.draft_tokens_max = 0;
  out.sequences_max = most(given.batches);
  // While the last prompts are computed, the first sequences decode already.
  const uint64_t early = uint64_t{out.sequences_max} * most(given.contexts) / out.step_tokens_max;
  const uint64_t decoded = uint64_t{most(given.contexts)} + uint64_t{given.reps} * given.tokens +
                           early + 2 * out.block_size;
  const uint64_t prompt = uint64_t{most(given.prompts)} + 2 * out.block_size;
  out.kv_bytes = std::max(decoded * out.sequences_max, prompt) * kv_token_bytes;
  out.context_max = static_cast<uint32_t>(std::max(decoded, prompt));
  return out;
}

caf::expected<subject> make_subject(const options& given, const model_choice& model,
                                    const std::string& dtype) {
  subject out;
  out.model = model.title;
  out.dtype = dtype;
  auto device = make_device(given);
  if (!device)
    return device.error();
  out.device = std::move(*device);
  if (given.profile) {
    auto profiled = gpu::make_profiled_device(std::move(out.device));
    out.profile = profiled.get();
    out.device = std::move(profiled);
  }
  if (auto why = model.path.empty() ? bind_shape(out, given) : bind_files(out, given, model.path))
    return why;
  return out;
}

} // namespace troupe::cli::bench
