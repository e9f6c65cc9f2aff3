#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/dtype.hpp"
#include "base/error.hpp"
#include "base/ids.hpp"
#include "base/instant.hpp"
#include "base/memory_pinner.hpp"

namespace troupe::gpu {
class device;
}

/// One model on one device: token ids in, token ids out. No files, no HTTP, no text.
namespace troupe::engine {

using token_id = int32_t;
struct model_config;
class kv_memory;
class weight_twins;
class workspace;

/// How the next token is chosen. Ranges are checked by `validate` before a sequence is accepted.
struct sampling_params {
  float temperature = 1.0f; ///< 0 = greedy
  float top_p = 1.0f;
  int32_t top_k = 0; ///< 0 = off
  float min_p = 0.0f;
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  float repetition_penalty = 1.0f;
  std::vector<std::pair<token_id, float>> logit_bias;
  uint64_t seed = 0;
  int32_t top_logprobs = -1; ///< -1 = none; 0..20 = the chosen token's and that many alternatives'
  uint32_t max_tokens = 16;  ///< generated tokens at most, those before a resume included
  uint32_t min_tokens = 0;   ///< no end-of-sequence token before this many
  bool ignore_eos = false;
  std::vector<token_id> stop_token_ids; ///< in addition to the model's own end tokens
};
template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, sampling_params& x) {
  return f(x.temperature, x.top_p, x.top_k, x.min_p, x.presence_penalty, x.frequency_penalty,
           x.repetition_penalty, x.logit_bias, x.seed, x.top_logprobs, x.max_tokens, x.min_tokens,
           x.ignore_eos, x.stop_token_ids);
}

/// A sequence to run or to resume: `tokens` holds the prompt and what was generated so far.
struct sequence_request {
  sequence_id id;
  uint32_t epoch = 0; ///< of this dispatch; copied into every event
  std::vector<token_id> tokens;
  uint32_t prompt_size = 0; ///< the first so many of `tokens` are the prompt
  sampling_params sampling;
  /// Only sequences of the same salt share what was computed for their prompts: whoever must not
  /// learn from timing what others asked gets one of their own.
  uint64_t salt = 0;
  /// Its prompt goes before others', and those that decode wait longer for it than for others (see
  /// policies::step_budget_config): for who has little running beside somebody who has much.
  bool urgent = false;
};
template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, sequence_request& x) {
  return f(x.id, x.epoch, x.tokens, x.prompt_size, x.sampling, x.salt, x.urgent);
}

enum class finish_reason : uint8_t { none, stop, length };

struct token_logprob {
  token_id token = 0;
  float logprob = 0;
};
template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, token_logprob& x) {
  return f(x.token, x.logprob);
}

/// One generated token. `offset` counts generated tokens of the sequence from 0.
/// An end-of-sequence token arrives with finish = stop and is not part of the text.
struct token_event {
  sequence_id id;
  uint32_t epoch = 0;
  uint32_t offset = 0;
  token_id token = 0;
  finish_reason finish = finish_reason::none;
  float logprob = 0;              ///< of `token`, when asked for
  std::vector<token_logprob> top; ///< most likely first, when asked for
  /// With the first token of a dispatch: prompt tokens that did not have to be computed.
  uint32_t reused = 0;
  uint32_t preempted = 0; ///< times that the sequence had to make room since its last token
};
template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, token_event& x) {
  return f(x.id, x.epoch, x.offset, x.token, x.finish, x.logprob, x.top, x.reused, x.preempted);
}

/// A sequence that was given up, alone: the others go on.
struct sequence_failure {
  sequence_id id;
  uint32_t epoch = 0;
  caf::error why; ///< bad_numbers
};

/// A weight as the checkpoint holds it; the bytes stay valid as long as the engine.
struct weight_view {
  dtype type = dtype::f32;
  std::vector<int64_t> shape;
  const void* data = nullptr; ///< null where `make` is set
  /// Set where the checkpoint holds the tensor otherwise (coded, or its rows in another order):
  /// writes rows [first, first + count) in `type` to host memory. Called by many threads at once.
  std::function<void(int64_t first, int64_t count, std::byte* to)> make = nullptr;
  /// Says that the first `rows` rows were read for the last time (a vector's rows are its
  /// elements), so that what they lie in can be given back; may be null.
  std::function<void(int64_t rows)> drop = nullptr;
  /// Blocks until the first `rows` rows are there, the load failed or `stop` is requested; null =
  /// all are there.
  std::function<caf::error(int64_t rows, const std::stop_token& stop)> wait = nullptr;
  /// The rows are there only until they are dropped, so they have to be copied.
  bool transient = false;
  /// Where devices read bytes by themselves that begin at `at`, a place within the rows at `data`
  /// that are there: how many of `size_bytes`, which are more than 0, and where. They must not be
  /// dropped before they were read. Null = nowhere.
  std::function<pinned_run(const std::byte* at, uint64_t size_bytes)> pinned = nullptr;
  /// Asked once all rows were made: fails if what they hold is nothing to compute with; null =
  /// there is nothing to say.
  std::function<caf::error()> check = nullptr;
};
/// Looks a tensor up by its Hugging Face name.
using weight_lookup = std::function<std::optional<weight_view>(std::string_view name)>;

/// How weights of linear layers are kept: as they are, or in blocks of 32 with a scale each, made
/// while loading. The vocabulary projection takes 8 bits at least.
enum class quantization : uint8_t { none, int8, int4 };

/// How far the weights of an engine are that was made before they had come.
struct weight_state {
  uint64_t total_bytes = 0; ///< that had not come when it was made
  uint64_t left_bytes = 0;  ///< that are not yet where the engine reads them
  caf::error why;           ///< if they will not come
  double busy_seconds = 0;  ///< that bringing them took, waits for bytes not counted
};

/// A step that has not all weights that it needs.
struct held_step {
  uint32_t layers_run = 0;
  uint32_t layers = 0; ///< of the model
};

/// What becomes of the keys and values of a sequence that is pushed out.
enum class preemption : uint8_t {
  cheaper,   ///< whichever takes less time by what was measured
  recompute, ///< dropped, and computed anew
  swap,      ///< copied to the host and back, as long as there is room
};

/// As `engine_options::kv_bytes`: all of the memory that is shared.
constexpr uint64_t kv_bytes_all = UINT64_MAX;

struct engine_options {
  uint64_t kv_bytes = 256ull << 20; ///< most of the KV memory; the block count follows from it
  uint32_t block_size = 16;         ///< tokens in a KV block
  uint32_t sequences_max = 64;      ///< running at once, 1 to 65536
  uint32_t waiting_max = 1024;      ///< accepted beyond those
  uint32_t step_tokens_max = 512;   ///< rows in one step; long prompts are cut into chunks of it
  uint32_t context_max = 0;         ///< caps the model's own context length; 0 = the model's
  bool reuse_prefixes = true;       ///< share KV blocks of equal beginnings
  uint32_t draft_tokens_max = 8;    ///< guessed from earlier text and checked in one step; 0 = off
  quantization quantize = quantization::none;
  /// f32, bf16 or i8 (a scale for each token and head: nearly twice the tokens of bf16 in the same
  /// memory; not on every device); default: f32 for f32 checkpoints, else bf16.
  std::optional<dtype> kv_type;
  /// Most that a step should take while sequences decode; 0 = 1.8 times what a
  /// step takes once all of them do.
  duration step_target{0};
  /// Host memory for the keys and values of sequences that were pushed out; touched when used.
  uint64_t swap_bytes = 64ull << 20;
  preemption preempt = preemption::cheaper;
  /// Measures steps; without one their costs are guessed. Stays on its node.
  std::function<instant()> clock = {};
  /// Called, on a thread of the engine, when `weights` says something new; not for every tensor.
  /// Stays on its node.
  std::function<void()> on_weights = {};
};

/// What an engine takes of a device, and an estimate of it.
struct engine_memory {
  uint64_t weights_bytes = 0;
  uint64_t kv_bytes = 0;        ///< an arena of its own, or what is borrowed now
  uint64_t workspace_bytes = 0; ///< of its own, or that it needs of one that is shared
};
/// Of two models that share a workspace.
constexpr engine_memory operator+(const engine_memory& a, const engine_memory& b) {
  return {a.weights_bytes + b.weights_bytes, a.kv_bytes + b.kv_bytes,
          std::max(a.workspace_bytes, b.workspace_bytes)};
}

/// What the engines of one device share, and, of `twins`, those of all devices of the process; what
/// is null an engine has for itself.
struct device_share {
  std::shared_ptr<kv_memory> kv;
  std::shared_ptr<workspace> work;
  std::shared_ptr<weight_twins> twins{};
};

/// A smaller model, of the same tokenizer, that guesses what a large one says. It never changes a
/// text: the large model checks each guess.
struct draft_source {
  std::shared_ptr<const model_config> config;
  weight_lookup lookup;
  std::shared_ptr<const void> keep_alive; ///< held as long as the engine
  std::string checkpoint{};               ///< as in `engine::create`
};

/// What an engine has done since it was made.
struct engine_counters {
  uint64_t steps = 0;
  uint64_t rows = 0; ///< tokens computed, guesses and those of pushed out sequences included
  uint64_t guesses = 0, right_guesses = 0;
  uint64_t recomputed = 0; ///< sequences that were pushed out and their KV dropped
  uint64_t swapped = 0;    ///< sequences that were pushed out and their KV copied to the host
  uint64_t swap_bytes = 0; ///< of the host that are in use now
};

/// Runs many sequences of one model: paged KV, continuous batching. One thread at a time.
class engine {
public:
  /// Binds the weights that `config` asks for; fails (missing tensor, wrong shape or dtype, no
  /// memory) with errc codes of this module. `keep_alive` is held as long as the engine, so that
  /// what `lookup` pointed into (a mapped checkpoint) lives. Where bytes are still on their way (a
  /// view has `wait`), returns at once and brings them to their places as they come; see `weights`.
  /// With `draft`, guesses are made by that model instead of looked up; it is quantized as the
  /// large one, takes a quarter of `options.kv_bytes` in addition, and runs in the same workspace.
  /// `share` is of `device`, for all its engines; without one keys and values lie in an arena of
  /// `kv_bytes` of their own. `checkpoint` is a text that no other weights and no other `config`
  /// have: by it the engines of `share.twins` find weights that another device has. Without a
  /// `lookup` they come from there, and it fails with no_twin if they do not, or later, as a load
  /// does.
  static caf::expected<std::unique_ptr<engine>>
  create(const model_config& config, const weight_lookup& lookup,
         std::shared_ptr<const void> keep_alive, gpu::device& device, const engine_options& options,
         const draft_source* draft = nullptr, device_share share = {},
         const std::string& checkpoint = {});

  /// Blocks while its weights are lent, but not for long: they are called back.
  virtual ~engine() = default;

  /// With weights that are still on their way, a step runs the layers that it has weights for and
  /// returns without tokens; the next one goes on there. Without `engine_options::on_weights` it
  /// waits for them instead. It fails with the load's error if the rest will not come. May be asked
  /// by any thread.
  virtual weight_state weights() const { return {}; }
  /// Whether another device is copying its weights; `on_weights` is called when it has.
  virtual bool is_lent() const { return false; }
  /// The step that waits for weights, if there is one: `on_weights` tells when it can go on, and
  /// another step before that does nothing, unless sequences were added or cancelled.
  virtual std::optional<held_step> held() const { return std::nullopt; }

  /// Queues a sequence; one of the same id and an older epoch is replaced. Fails at once with
  /// invalid_argument if it can never run here (empty, token ids out of range, longer than the
  /// context or the whole KV arena), with stale if a newer epoch is here already, and with busy if
  /// `waiting_max` sequences wait.
  virtual caf::error add(sequence_request request) = 0;
  /// Drops a sequence and frees its KV blocks; unknown ids are ignored.
  virtual void cancel(sequence_id id) = 0;
  /// Runs one batch of prefill and decode rows. Returns the new tokens, in sequence order,
  /// valid until the next call; they may be moved from. When KV
  /// blocks run out, the youngest running sequences go back to the engine's own queue and are
  /// recomputed; those of other engines that share the memory may have to, and there may then be
  /// nothing to run until others are through. An error means that the device failed: the engine is
  /// of no more use.
  virtual caf::expected<std::span<token_event>> step() = 0;
  /// The sequences that steps gave up since the last call; they hold nothing any more.
  virtual std::vector<sequence_failure> take_failures() { return {}; }

  virtual bool idle() const = 0;        ///< nothing running or waiting
  virtual uint32_t running() const = 0; ///< sequences with KV blocks
  virtual uint32_t waiting() const = 0; ///< accepted, no KV yet
  /// Sequences that could start now without queueing here or pushing another out, if their prompts
  /// are short: by free places and by KV blocks that are not spoken for.
  virtual uint32_t room() const = 0;
  virtual double kv_usage() const = 0; ///< used share of KV blocks, 0..1
  virtual uint32_t context_length() const = 0;
  virtual engine_memory memory() const = 0;
  virtual engine_counters counters() const { return {}; }
};

/// Bytes that an engine would take: for admission before anything is loaded. `weight_bytes` is the
/// size of the checkpoint. On `device`, or, if null, on one that chooses tokens itself.
engine_memory estimate_memory(const model_config& config, uint64_t weight_bytes,
                              const engine_options& options, const gpu::device* device = nullptr);

/// What its draft model would take; see `operator+`.
engine_memory estimate_draft_memory(const model_config& config, uint64_t weight_bytes,
                                    const engine_options& options,
                                    const gpu::device* device = nullptr);

/// An error that names the parameter and its allowed range, or none.
caf::error validate(const sampling_params& params, int32_t vocab_size);

} // namespace troupe::engine
