#include "config/keys.hpp"

#include <algorithm>
#include <limits>
#include <type_traits>

#include "config/errors.hpp"

namespace troupe::config {
namespace {

template <class T>
struct without_optional {
  using type = T;
};
template <class T>
struct without_optional<std::optional<T>> {
  using type = T;
};

template <auto First, auto... Rest, class Owner>
auto& member(Owner& owner) {
  if constexpr (sizeof...(Rest) == 0)
    return owner.*First;
  else
    return member<Rest...>(owner.*First);
}

template <class T>
constexpr bool is_number = std::is_integral_v<T> && !std::is_same_v<T, bool>;

template <class Owner, auto... Path>
void assign_to(Owner& owner, value&& what) {
  auto& field = member<Path...>(owner);
  using type = typename without_optional<std::remove_reference_t<decltype(field)>>::type;
  if constexpr (is_number<type>)
    field = static_cast<type>(std::get<uint64_t>(what)); // the key's max keeps it in range
  else
    field = std::get<type>(std::move(what));
}

template <class Owner, auto... Path>
std::optional<value> read_from(const Owner& owner) {
  const auto& field = member<Path...>(owner);
  using held = std::remove_cvref_t<decltype(field)>;
  using type = typename without_optional<held>::type;
  if constexpr (!std::is_same_v<held, type>) {
    if (!field)
      return std::nullopt;
    if constexpr (is_number<type>)
      return value{static_cast<uint64_t>(*field)};
    else
      return value{*field};
  } else if constexpr (is_number<type>) {
    return value{static_cast<uint64_t>(field)};
  } else {
    return value{field};
  }
}

template <class Owner, auto... Path>
constexpr key<Owner> make(std::string_view path, kind type, std::string_view about,
                          uint64_t min = 0, uint64_t max = std::numeric_limits<uint64_t>::max(),
                          std::span<const std::string_view> choices = {}) {
  return {
      path, type, about, min, max, choices, &assign_to<Owner, Path...>, &read_from<Owner, Path...>};
}
template <auto... Path, class... Rest>
constexpr key<settings> node(Rest... rest) {
  return make<settings, Path...>(rest...);
}
template <auto... Path, class... Rest>
constexpr key<model_settings> model(Rest... rest) {
  return make<model_settings, Path...>(rest...);
}

using choice_list = std::span<const std::string_view>;
constexpr std::string_view role_names[] = {"all", "head", "worker"};
constexpr std::string_view precision_names[] = {"auto", "float32"};
constexpr std::string_view quantize_names[] = {"none", "int8", "int4"};
constexpr std::string_view kv_type_names[] = {"auto", "f32", "bf16", "int8"};
constexpr std::string_view products_names[] = {"invariant", "fastest"};
constexpr std::string_view level_names[] = {"trace", "debug", "info", "warn", "error", "off"};
constexpr std::string_view format_names[] = {"text", "json"};
constexpr uint64_t any = std::numeric_limits<uint64_t>::max();
constexpr uint64_t count_max = 1'000'000;
constexpr uint64_t hour_ms = 3'600'000;

using s = settings;
using c = cluster_settings;
using e = engine_settings;
using l = limit_settings;
using d = download_settings;

constexpr key<settings> node_table[] = {
    node<&s::listen>("listen", kind::address, "Where HTTP is served; port 0 takes any free port."),
    node<&s::admin>("admin", kind::boolean, "Serve /admin on the same address."),
    node<&s::admin_listen>("admin_listen", kind::address,
                           "An address of its own for /admin, which is then not on the other."),
    node<&s::metrics_key>(
        "metrics_key", kind::boolean,
        "Once there are keys, /metrics needs an admin key; false: it needs none."),
    node<&s::role>("role", kind::choice,
                   "all: everything in one process. head: HTTP and scheduling; workers join it. "
                   "worker: computes for a head.",
                   0, any, choice_list{role_names}),
    node<&s::cluster, &c::listen>("cluster.listen", kind::address,
                                  "Head: where workers join. No authentication: keep it private."),
    node<&s::cluster, &c::join>("cluster.join", kind::address,
                                "Worker: the head's cluster.listen."),
    node<&s::cluster, &c::data_listen>(
        "cluster.data_listen", kind::address,
        "Where other nodes get weights from this one; port 0, as by default, takes any free port. "
        "No authentication: keep it private."),
    node<&s::cluster, &c::data_rate>(
        "cluster.data_rate", kind::size,
        "Bytes per second that this node sends to others at most; 0 = no limit."),
    node<&s::cluster, &c::same_paths>(
        "cluster.same_paths", kind::boolean,
        "Worker: what lies under the head's path of a model is that model. false: weights come "
        "from other nodes in any case."),
    node<&s::node_name>(
        "node_name", kind::text,
        "Name of this node; empty = the host's name, a worker's with its process id."),
    node<&s::model_dirs>("model_dirs", kind::paths,
                         "Directories that are models, or hold models at most a few levels down."),
    node<&s::hub_cache>(
        "hub_cache", kind::toggle_path,
        "Serve the models of the Hugging Face cache: true, false, or the cache's directory."),
    node<&s::store_dir>("store_dir", kind::path,
                        "Directory for models that are fetched from the web or an object store; "
                        "empty = troupe/models in the user's data directory."),
    node<&s::devices>(
        "devices", kind::names,
        "What to compute on, one worker each: cpu (all cores), cpu:N (a NUMA node), numa "
        "(every NUMA node), cuda:N, cuda (every CUDA device), or auto (CUDA where "
        "there is any, else cpu)."),
    node<&s::memory_limit>(
        "memory_limit", kind::memory,
        "Memory of one worker for weights and KV: a size, or a share of its device's.", 1),
    node<&s::threads>("threads", kind::count, "Compute threads of a CPU worker; 0 = one per core.",
                      0u, 4096u),
    node<&s::precision>(
        "precision", kind::choice,
        "auto: the fastest path for the weights' type. float32: exact float arithmetic.", 0, any,
        choice_list{precision_names}),
    node<&s::keep_alive>(
        "keep_alive", kind::keep_alive,
        "How long an idle model stays loaded; 0 = unload at once, -1 = for ever, "
        "auto = as long as its use and the time of its reload are worth the memory."),
    node<&s::default_tenant>("default_tenant", kind::text,
                             "Whose requests those without a key are, while there are no keys."),
    node<&s::state_dir>("state_dir", kind::toggle_path,
                        "Directory of what outlives the server once there are tenants: the ledger "
                        "of their usage, and keys that are kept. true: troupe below XDG_STATE_HOME "
                        "or ~/.local/state. "
                        "false: nothing is kept."),
    node<&s::queue_max>("queue_max", kind::count,
                        "Requests that may wait for one model; beyond it: 503 with Retry-After.",
                        1u, count_max),
    node<&s::request_history>(
        "request_history", kind::count,
        "Of how many of the last requests `troupe explain` can tell what they went through. No "
        "texts are kept.",
        0u, count_max),
    node<&s::load_timeout>("load_timeout", kind::duration, "How long a model may take to load.",
                           1000u, 24 * hour_ms),
    node<&s::drain_timeout>("drain_timeout", kind::duration,
                            "How long running requests may go on after SIGTERM.", 0u, 24 * hour_ms),
    node<&s::engine, &e::kv_memory>(
        "engine.kv_memory", kind::memory,
        "KV memory of a worker, which its models borrow from by need: a size, or a share of "
        "memory_limit.",
        1),
    node<&s::engine, &e::block_size>("engine.block_size", kind::count, "Tokens in a KV block.", 1u,
                                     1024u),
    node<&s::engine, &e::sequences_max>("engine.sequences_max", kind::count,
                                        "Sequences that run at once in one model.", 1u, 4096u),
    node<&s::engine, &e::step_tokens_max>(
        "engine.step_tokens_max", kind::count,
        "Rows of one step; longer prompts are cut into such chunks.", 1u, 65536u),
    node<&s::engine, &e::context_max>(
        "engine.context_max", kind::count,
        "Caps the context length of every model; 0 = the model's own.", 0u, 1u << 30),
    node<&s::engine, &e::prefix_cache>(
        "engine.prefix_cache", kind::boolean,
        "Reuse what was computed for requests that begin the same way."),
    node<&s::engine, &e::draft_tokens_max>(
        "engine.draft_tokens_max", kind::count,
        "Tokens guessed from earlier text and checked in one step; 0 = off. Never changes a text.",
        0u, 64u),
    node<&s::engine, &e::draft_model>(
        "engine.draft_model", kind::text,
        "A smaller model, by name or path, that guesses what the others say, where their tokenizer "
        "is the same; empty = none, guesses are looked up in the text."),
    node<&s::engine, &e::quantize>("engine.quantize", kind::choice,
                                   "Keep linear weights in fewer bits, made while loading.", 0, any,
                                   choice_list{quantize_names}),
    node<&s::engine, &e::kv_type>("engine.kv_type", kind::choice,
                                  "Element type of the KV cache; auto follows the weights, int8 "
                                  "holds nearly twice the tokens of bf16.",
                                  0, any, choice_list{kv_type_names}),
    node<&s::engine, &e::products>(
        "engine.products", kind::choice,
        "Matrix products of many rows on CUDA devices. invariant: own kernels; a text never "
        "depends on what shares its batch. fastest: cuBLASLt, where it is there; a text may "
        "depend on that.",
        0, any, choice_list{products_names}),
    node<&s::engine, &e::step_target>(
        "engine.step_target", kind::duration,
        "Most that a step should take while texts are written, so that prompts do not make them "
        "stall; 0 = 1.8 times what a step takes when all requests at hand only write.",
        0u, hour_ms),
    node<&s::engine, &e::swap_bytes>(
        "engine.swap_memory", kind::size,
        "Host memory of one model for the KV of sequences that had to make room; beyond it they "
        "are recomputed.",
        0u, any),
    node<&s::storage, &storage_settings::pool>(
        "storage.pool", kind::toggle_path,
        "Keep loaded weights in shared memory, for the next load and the next start: true, false, "
        "or the directory (on a tmpfs) that the pool lies in; true means /dev/shm."),
    node<&s::storage, &storage_settings::pool_memory>(
        "storage.pool_memory", kind::memory,
        "Largest size of that memory: a size, or a share of the machine's.", 1),
    node<&s::storage, &storage_settings::pool_ready>(
        "storage.pool_ready", kind::memory,
        "So much of it is made ready before it is needed, so that the first loads do not wait for "
        "it, but no more than the largest model takes: a size, or a share of the machine's; 0 = "
        "none.",
        0),
    node<&s::storage, &storage_settings::pool_pinned>(
        "storage.pool_pinned", kind::memory,
        "At most so much of it is pinned, in the background and for GPUs alone, which then read it "
        "by themselves; pinned memory is never swapped out: a size, or a share of the machine's; "
        "0 = none.",
        0),
    node<&s::storage, &storage_settings::prefetch>(
        "storage.prefetch", kind::boolean,
        "Bring the weights of models that are likely to be asked for soon into that memory, where "
        "it holds nothing worth more."),
    node<&s::tls, &tls_settings::cert_file>(
        "tls.cert_file", kind::path,
        "Certificate, with those below its root, in PEM: HTTPS is served instead of HTTP. Read "
        "again when it changes."),
    node<&s::tls, &tls_settings::key_file>("tls.key_file", kind::path,
                                           "The certificate's private key in PEM."),
    node<&s::admin_tls, &tls_settings::cert_file>("admin_tls.cert_file", kind::path,
                                                  "The same for admin_listen."),
    node<&s::admin_tls, &tls_settings::key_file>("admin_tls.key_file", kind::path,
                                                 "The same for admin_listen."),
    node<&s::limits, &l::body_bytes>("limits.body", kind::size, "Largest request body.", 1024u,
                                     1ull << 32),
    node<&s::limits, &l::header_bytes>("limits.header", kind::size, "Largest request head.", 1024u,
                                       1u << 24),
    node<&s::limits, &l::connections>("limits.connections", kind::count, "Open connections.", 1u,
                                      count_max),
    node<&s::limits, &l::read_timeout>("limits.read_timeout", kind::duration,
                                       "For one whole request to arrive.", 1000u, hour_ms),
    node<&s::limits, &l::write_timeout>("limits.write_timeout", kind::duration,
                                        "For a client to take what it was sent.", 1000u, hour_ms),
    node<&s::limits, &l::sse_silence>("limits.sse_silence", kind::duration,
                                      "A stream that has been silent for so long gets a comment.",
                                      1000u, hour_ms),
    node<&s::limits, &l::request_timeout>("limits.request_timeout", kind::duration,
                                          "For a whole answer; 504 after it.", 1000u, 24 * hour_ms),
    node<&s::limits, &l::n_max>("limits.n_max", kind::count, "Choices of one request (its n).", 1u,
                                4096u),
    node<&s::download, &d::connections>("download.connections", kind::count,
                                        "Parts of a model that are fetched at once.", 1u, 256u),
    node<&s::download, &d::retries>("download.retries", kind::count,
                                    "Attempts in a row without a byte before a download fails.", 0u,
                                    1000u),
    node<&s::download, &d::stall_timeout>("download.stall_timeout", kind::duration,
                                          "A connection that sends nothing for so long is tried "
                                          "again.",
                                          100u, hour_ms),
    node<&s::log, &log_settings::level>("log.level", kind::choice,
                                        "Least severe level that is logged.", 0, any,
                                        choice_list{level_names}),
    node<&s::log, &log_settings::format>("log.format", kind::choice,
                                         "Log lines as text or as JSON.", 0, any,
                                         choice_list{format_names}),
};

using m = model_settings;
constexpr key<model_settings> model_table[] = {
    model<&m::keep_alive>(
        "keep_alive", kind::keep_alive,
        "How long the model stays loaded when idle; 0 = unload at once, -1 = for ever."),
    model<&m::pinned>("pinned", kind::boolean, "Loaded at start and never unloaded to make room."),
    model<&m::preload>("preload", kind::boolean, "Loaded at start."),
    model<&m::replicas>("replicas", kind::count,
                        "Copies that are loaded together, on workers that have room.", 1u, 4096u),
    model<&m::kv_bytes>("kv_memory", kind::size,
                        "Most of the worker's KV memory that the model may borrow.", 1u << 16, any),
    model<&m::context_max>("context_max", kind::count, "Caps the model's context length.", 1u,
                           1u << 30),
    model<&m::quantize>("quantize", kind::choice, "Keep the model's linear weights in fewer bits.",
                        0, any, choice_list{quantize_names}),
    model<&m::kv_type>("kv_type", kind::choice, "Element type of the model's KV cache.", 0, any,
                       choice_list{kv_type_names}),
    model<&m::draft_model>("draft_model", kind::text,
                           "A smaller model of the same tokenizer, by name or path, that guesses "
                           "what this one says. Never changes a text; empty = none."),
    model<&m::source>("source", kind::references,
                      "Where the model is fetched from when it is first needed: hf://, s3://, "
                      "http(s):// or a path; or a list of places that have the same files, which "
                      "are drawn on at once."),
    model<&m::aliases>("aliases", kind::names, "Further names under which the model is served."),
};

} // namespace

std::span<const key<settings>> node_keys() { return node_table; }
std::span<const key<model_settings>> model_keys() { return model_table; }

const key<settings>* find_key(std::string_view path) {
  const auto* found = std::ranges::find(node_table, path, &key<settings>::path);
  return found == std::end(node_table) ? nullptr : found;
}

const key<model_settings>* find_model_key(std::string_view path) {
  const auto* found = std::ranges::find(model_table, path, &key<model_settings>::path);
  return found == std::end(model_table) ? nullptr : found;
}

std::vector<std::string_view> section_names() {
  std::vector<std::string_view> names;
  for (const auto& entry : node_table) {
    const size_t dot = entry.path.find('.');
    if (dot != std::string_view::npos &&
        std::ranges::find(names, entry.path.substr(0, dot)) == names.end())
      names.push_back(entry.path.substr(0, dot));
  }
  return names;
}

std::vector<std::string> differences(const settings& a, const settings& b) {
  std::vector<std::string> out;
  for (const auto& entry : node_table)
    if (entry.read(a) != entry.read(b))
      out.emplace_back(entry.path);
  const auto same = [](const model_settings& x, const model_settings& y) {
    return std::ranges::all_of(model_table,
                               [&](const auto& entry) { return entry.read(x) == entry.read(y); });
  };
  const auto has = [&](const settings& in, const auto& wanted) {
    return std::ranges::any_of(in.models, [&](const auto& one) {
      return one.first == wanted.first && same(one.second, wanted.second);
    });
  };
  for (const auto& [in, other] : {std::pair{&a, &b}, {&b, &a}})
    for (const auto& one : in->models)
      if (const auto path = "models." + one.first;
          !has(*other, one) && std::ranges::find(out, path) == out.end())
        out.push_back(path);
  return out;
}

model_settings settings_for(const settings& all, const std::string& name) {
  model_settings result;
  for (const bool exact : {false, true})
    for (const auto& [pattern, given] : all.models) {
      if (is_glob(pattern) == exact || !(exact ? pattern == name : glob_match(pattern, name)))
        continue;
      for (const auto& entry : model_table)
        if (auto held = entry.read(given))
          entry.assign(result, std::move(*held));
    }
  return result;
}

} // namespace troupe::config
