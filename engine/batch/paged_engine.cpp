#include "engine/batch/paged_engine.hpp"

#include <algorithm>

#include "engine/errors.hpp"

namespace troupe::engine {

namespace {

bool contains(const std::vector<token_id>& ids, token_id id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

caf::error refuse(std::string text) {
  return caf::make_error(errc::invalid_argument, std::move(text));
}

caf::error check_options(const engine_options& options) {
  const auto within = [](const char* name, uint64_t value, uint64_t low, uint64_t high) {
    return value >= low && value <= high
               ? caf::error{}
               : refuse("engine option " + std::string{name} + " is " + std::to_string(value) +
                        ", but must be from " + std::to_string(low) + " to " +
                        std::to_string(high));
  };
  if (auto why = within("block_size", options.block_size, 1, 4096))
    return why;
  if (auto why = within("sequences_max", options.sequences_max, 1, 65536))
    return why;
  if (auto why = within("step_tokens_max", options.step_tokens_max, 1, 1 << 20))
    return why;
  if (auto why = within("waiting_max", options.waiting_max, 1, 1 << 24))
    return why;
  if (auto why = within("draft_tokens_max", options.draft_tokens_max, 0, 64))
    return why;
  if (options.kv_type && *options.kv_type != dtype::f32 && *options.kv_type != dtype::bf16 &&
      *options.kv_type != dtype::i8)
    return refuse("engine option kv_type must be f32, bf16 or i8");
  return {};
}

step_limits limits_of(const engine_options& options) {
  step_limits out;
  out.sequences_max = options.sequences_max;
  // A step must hold a row for every running sequence, or the youngest would starve.
  out.rows_max = std::max(options.step_tokens_max, out.sequences_max);
  out.block_size = options.block_size;
  out.reuse_prefixes = options.reuse_prefixes;
  out.draft_max = options.draft_tokens_max;
  out.logit_rows_max = out.sequences_max + out.draft_max;
  out.budget.target = options.step_target;
  out.preempt = options.preempt;
  return out;
}

uint32_t context_of(const model_config& config, const kv_shape& shape,
                    const engine_options& options) {
  auto context = std::min<int64_t>(config.context_length, shape.tokens());
  if (options.context_max > 0)
    context = std::min<int64_t>(context, options.context_max);
  return static_cast<uint32_t>(std::min<int64_t>(context, UINT32_MAX));
}

int64_t blocks_per_sequence(uint32_t context, const step_limits& limits) {
  return (int64_t{context} + limits.block_size) / limits.block_size + 1;
}

row_chooser::extent choices_of(const model_config& config, const step_limits& limits) {
  return {config.vocab_size, config.vocab_size, limits.logit_rows_max};
}

step_size largest_step(const model_config& config, const step_limits& limits, uint32_t context,
                       const gpu::device* device) {
  step_size out{limits.rows_max, limits.sequences_max, blocks_per_sequence(context, limits),
                limits.logit_rows_max, row_chooser::room_bytes(device, choices_of(config, limits))};
  if (device != nullptr)
    out.scratch_bytes = graph::scratch_bytes(config, out, limits.block_size, *device);
  return out;
}

} // namespace

paged_engine::paged_engine(parts built)
    : parts_{std::move(built)}, planner_{parts_.limits, parts_.kv, parts_.draft.get()} {
  parts_.kv.join(*this);
  const auto& limits = parts_.limits;
  batch_.reserve(limits.rows_max, limits.sequences_max, limits.logit_rows_max,
                 static_cast<size_t>(blocks_per_sequence(parts_.context, limits)));
  events_.reserve(limits.logit_rows_max);
}

caf::error paged_engine::check(const sequence_request& request) const {
  const auto size = request.tokens.size();
  if (size == 0 || request.prompt_size == 0 || request.prompt_size > size)
    return refuse("a sequence needs at least one prompt token");
  if (size >= parts_.context)
    return refuse("the sequence has " + std::to_string(size) + " tokens, but only " +
                  std::to_string(parts_.context) + " fit, the next one included");
  const auto vocabulary = static_cast<token_id>(parts_.config.vocab_size);
  for (const auto token : request.tokens)
    if (token < 0 || token >= vocabulary)
      return refuse("token id " + std::to_string(token) + " is not below the vocabulary's size, " +
                    std::to_string(vocabulary));
  if (auto why = validate(request.sampling, vocabulary))
    return why;
  if (size - request.prompt_size >= request.sampling.max_tokens)
    return refuse("the sequence has its max_tokens already");
  return {};
}

caf::error paged_engine::add(sequence_request request) {
  if (auto why = check(request))
    return why;
  replan_ = true;
  if (const auto* held = planner_.find(request.id)) {
    if (held->request.epoch > request.epoch)
      return caf::make_error(errc::stale, "dispatch " + std::to_string(request.epoch) +
                                              " of a sequence came after dispatch " +
                                              std::to_string(held->request.epoch));
    cancel(request.id); // a resume replaces what an earlier dispatch left
  }
  if (planner_.waiting().size() >= parts_.waiting_max)
    return caf::make_error(errc::busy, std::to_string(parts_.waiting_max) +
                                           " sequences wait already for a place in a batch");
  sequence one;
  one.request = std::move(request);
  one.size_max = std::min<size_t>(parts_.context, size_t{one.request.prompt_size} +
                                                      one.request.sampling.max_tokens);
  planner_.add(std::move(one));
  return {};
}

/// Says what the sequence's rows with logits will be chosen by: of those behind guesses, that the
/// guesses are right, for otherwise nobody looks at them.
void paged_engine::plan_choices(const sequence& one) {
  const auto& request = one.request;
  const std::span<const token_id> draft{one.draft};
  for (size_t right = 0; right <= draft.size(); ++right)
    parts_.choices.add({request.sampling, request.tokens, draft.first(right), request.prompt_size,
                        parts_.config.eos_token_ids});
}

void paged_engine::build_batch() {
  batch_.clear();
  parts_.choices.clear();
  size_t widest = 0;
  for (const auto& one : planner_.running())
    if (one.rows > 0)
      widest = std::max(widest, one.blocks.size());
  batch_.table_stride = parts_.forward->table_stride(widest);
  for (const auto& one : planner_.running()) {
    if (one.rows == 0)
      continue;
    const auto end = one.computed + one.rows;
    // The last known token's row, and those of the guesses behind it.
    const auto wanted = end < one.size() ? 0 : end - one.size() + 1;
    batch_.append({one.computed, one.rows, wanted}, one.blocks, parts_.kv, [&](size_t at) {
      return at < one.size() ? one.request.tokens[at] : one.draft[at - one.size()];
    });
    if (wanted > 0)
      plan_choices(one);
  }
}

finish_reason paged_engine::finish_of(const sequence& one, token_id token) const {
  const auto& sampling = one.request.sampling;
  const bool ends = (!sampling.ignore_eos && contains(parts_.config.eos_token_ids, token)) ||
                    contains(sampling.stop_token_ids, token);
  if (ends)
    return finish_reason::stop;
  if (one.generated() >= sampling.max_tokens || one.size() >= parts_.context)
    return finish_reason::length;
  return finish_reason::none;
}

caf::error paged_engine::choose(sequence& one, size_t row) {
  auto& request = one.request;
  auto chosen = parts_.choices.take(
      row, {request.sampling, request.tokens, request.prompt_size, parts_.config.eos_token_ids});
  if (!chosen)
    return chosen.error();
  token_event event;
  event.id = request.id;
  event.epoch = request.epoch;
  event.offset = one.generated();
  event.token = chosen->token;
  event.reused = std::min(std::exchange(one.reused, 0), request.prompt_size);
  event.preempted = std::exchange(one.preempted, 0);
  event.logprob = chosen->logprob;
  event.top = std::move(chosen->top);
  request.tokens.push_back(chosen->token);
  event.finish = finish_of(one, chosen->token);
  events_.push_back(std::move(event));
  return {};
}

/// Chooses a token after the last known one, and one after each guess for as long as the guesses
/// are what is chosen: the same tokens as one by one, for a choice depends on nothing but its row's
/// logits, the tokens before it, and the seed. `row` is the first of its rows with logits.
caf::error paged_engine::settle(sequence& one, size_t row) {
  const auto drafted = one.draft.size();
  size_t right = 0;
  for (;; ++right) {
    if (auto why = choose(one, row + right))
      return why;
    const auto& event = events_.back();
    if (event.finish != finish_reason::none || right == drafted || event.token != one.draft[right])
      break;
  }
  counters_.guesses += drafted;
  counters_.right_guesses += right;
  if (drafted > 0)
    one.pace.learn(static_cast<uint32_t>(drafted), static_cast<uint32_t>(right));
  planner_.advance(one, drafted - right);
  return {};
}

/// Carries out the plan's moves of blocks, and measures what goes to the host and back.
caf::error paged_engine::move_blocks() {
  const auto& kv = parts_.kv;
  const auto slot = [&](int32_t number) {
    return parts_.swap.get() + static_cast<uint64_t>(number) * kv.shape().block_bytes;
  };
  const auto begun = now();
  uint64_t swapped_bytes = 0;
  for (const auto& move : planner_.moves()) {
    if (move.how == block_move::way::copy) {
      kv.copy_block(move.from, move.to);
      continue;
    }
    swapped_bytes += kv.shape().block_bytes;
    if (move.how == block_move::way::save)
      kv.save_block(move.from, slot(move.to));
    else
      kv.load_block(slot(move.from), move.to);
  }
  if (swapped_bytes == 0)
    return {};
  if (auto why = kv.device().synchronize())
    return why;
  planner_.learn_copying(swapped_bytes, now() - begun);
  return {};
}

policies::kv_holding paged_engine::holding() const {
  const auto& blocks = planner_.blocks();
  const auto spans = static_cast<uint64_t>(parts_.kv.shape().run_spans);
  const auto& running = planner_.running();
  policies::kv_holding out;
  out.held = static_cast<uint64_t>(parts_.kv.runs_here() - blocks.spare_runs()) * spans;
  if (!planner_.is_planning()) {
    out.spare = static_cast<uint64_t>(blocks.spare_runs()) * spans;
    out.spare_since = blocks.spare_since();
  }
  out.sequences = static_cast<uint32_t>(running.size());
  out.youngest = running.empty() ? 0 : running.back().came;
  out.is_stalled = is_held_;
  return out;
}

void paged_engine::push_out() {
  replan_ = true;
  planner_.push_out();
  if (auto why = move_blocks(); why && !failure_)
    failure_ = std::move(why);
}

void paged_engine::moved(int32_t slot, int32_t first) {
  replan_ = true; // the step that is held has tables of where blocks were
  parts_.kv.moved(slot, first);
}

void paged_engine::cancel(sequence_id id) {
  replan_ = true;
  planner_.remove(id);
  if (parts_.draft)
    parts_.draft->forget(id);
}

void paged_engine::retire(std::list<sequence>::iterator one) {
  if (parts_.draft)
    parts_.draft->forget(one->request.id);
  planner_.retire(one);
}

/// Takes the tokens of the sequences that are computed to their ends.
void paged_engine::finish_rows() {
  size_t row = 0;
  for (auto one = planner_.running().begin(); one != planner_.running().end();) {
    const auto here = one++;
    if (here->rows == 0)
      continue;
    if (here->computed + here->rows < here->size()) {
      planner_.advance(*here); // a chunk of a prompt
      continue;
    }
    const auto own = here->draft.size() + 1;
    if (auto why = settle(*here, row)) {
      failures_.push_back({here->request.id, here->request.epoch, std::move(why)});
      retire(here);
    } else if (events_.back().finish != finish_reason::none) {
      retire(here);
    }
    row += own;
  }
}

/// Plans a step, instead of one that is held, if any. False if there is nothing to run.
caf::expected<bool> paged_engine::begin_step() {
  is_held_ = replan_ = false;
  parts_.forward->restart();
  if (failure_)
    return failure_;
  const bool has_rows = planner_.plan();
  if (parts_.draft)
    if (auto why = parts_.draft->take_failure())
      return why;
  if (auto why = move_blocks()) // there may be some of sequences that found no room
    return why;
  if (!has_rows)
    return false;
  step_begun_ = now();
  step_shape_ = planner_.shape();
  build_batch();
  weights_lacked_ = !parts_.weights->are_there();
  return true;
}

caf::expected<std::span<token_event>> paged_engine::step() {
  events_.clear();
  // What was added or cancelled since changes the step that is held; its layers run quickly again.
  if (!is_held_ || replan_) {
    const auto begun = begin_step();
    if (!begun)
      return begun.error();
    if (!*begun)
      return std::span{events_};
  }
  const auto logits = parts_.waits ? parts_.forward->queue(batch_, parts_.kv)
                                   : parts_.forward->advance(batch_, parts_.kv);
  if (!logits)
    return logits.error();
  is_held_ = *logits == nullptr;
  if (is_held_)
    return std::span{events_};
  if (auto why = parts_.choices.choose(*logits, parts_.forward->choice_room()))
    return why;
  ++counters_.steps;
  counters_.rows += batch_.tokens.size();
  finish_rows();
  if (!weights_lacked_) // else it took as long as the load
    planner_.learn_step(step_shape_, now() - step_begun_);
  return std::span{events_};
}

std::optional<held_step> paged_engine::held() const {
  if (!is_held_)
    return std::nullopt;
  return held_step{static_cast<uint32_t>(parts_.forward->layers_run()),
                   static_cast<uint32_t>(parts_.config.layers)};
}

engine_counters paged_engine::counters() const {
  auto out = counters_;
  out.recomputed = planner_.recomputed();
  out.swapped = planner_.swapped();
  out.swap_bytes = planner_.slots_in_use() * parts_.kv.shape().block_bytes;
  return out;
}

uint32_t paged_engine::room() const {
  const auto held = planner_.running().size() + planner_.waiting().size();
  const auto free =
      planner_.limits().sequences_max - std::min<size_t>(held, planner_.limits().sequences_max);
  return static_cast<uint32_t>(std::min<int64_t>(static_cast<int64_t>(free), planner_.startable()));
}

double paged_engine::kv_usage() const {
  const auto& blocks = planner_.blocks();
  return static_cast<double>(blocks.held()) / std::max(1, blocks.total());
}

engine_memory paged_engine::memory() const {
  const engine_memory own{parts_.weights->size_bytes, parts_.kv.size_bytes(),
                          parts_.forward->workspace_bytes()};
  return parts_.draft ? own + parts_.draft->memory() : own;
}

weight_state paged_engine::weights() const {
  auto out = parts_.weights->state();
  if (!parts_.draft)
    return out;
  auto small = parts_.draft->weights();
  out.total_bytes += small.total_bytes;
  out.left_bytes += small.left_bytes;
  out.busy_seconds += small.busy_seconds;
  if (!out.why)
    out.why = std::move(small.why);
  return out;
}

caf::expected<std::unique_ptr<engine>>
engine::create(const model_config& config, const weight_lookup& lookup,
               std::shared_ptr<const void> keep_alive, gpu::device& device,
               const engine_options& options, const draft_source* draft, device_share share,
               const std::string& checkpoint) {
  if (auto why = check_options(options))
    return why;
  auto weights =
      place_weights(config, lookup, checkpoint, keep_alive, device, options, share.twins.get());
  if (!weights)
    return weights.error();
  auto limits = limits_of(options);
  auto planned = options;
  planned.block_size = limits.block_size;
  planned.sequences_max = limits.sequences_max;
  const auto* memory = share.kv.get();
  const auto shape = plan_kv(config, (*weights)->embedding.type, planned, memory);
  if (shape.tokens() < 2)
    return caf::make_error(errc::out_of_memory,
                           "a KV arena of " +
                               std::to_string(memory
                                                  ? std::min(options.kv_bytes, memory->size_bytes())
                                                  : options.kv_bytes) +
                               " bytes holds no two tokens of this model (a block of " +
                               std::to_string(shape.block_size) + " tokens takes " +
                               std::to_string(shape.block_bytes) + " bytes); give it more");
  if (!device.keeps_kv(shape.type))
    return refuse("engine option kv_type is " + std::string{to_string(shape.type)} + ", but " +
                  device.name() + " keeps keys and values in f32 or bf16 only");
  auto kv = kv_arena::create(config, shape, device, share.kv);
  if (!kv)
    return kv.error();
  limits.block_bytes = shape.block_bytes;
  limits.swap_slots =
      static_cast<uint32_t>(std::min<uint64_t>(options.swap_bytes / shape.block_bytes, INT32_MAX));
  const auto context = context_of(config, shape, options);
  if (!share.work)
    share.work = std::make_shared<workspace>(device);
  auto forward = graph::create(config, **weights, device,
                               largest_step(config, limits, context, &device), share.work);
  if (!forward)
    return forward.error();
  paged_engine::parts parts{config,
                            std::move(keep_alive),
                            std::move(*weights),
                            std::move(*forward),
                            std::move(*kv),
                            row_chooser{device, choices_of(config, limits)},
                            limits,
                            context,
                            options.waiting_max,
                            options.clock,
                            nullptr,
                            nullptr,
                            !options.on_weights};
  if (draft != nullptr && limits.draft_max > 0) {
    auto made = draft_model::create(*draft, device, config.vocab_size, options, std::move(share));
    if (!made)
      return made.error();
    parts.draft = std::move(*made);
  }
  // Pages that are never written to are never taken.
  if (limits.swap_slots > 0)
    parts.swap = std::make_unique_for_overwrite<std::byte[]>(limits.swap_slots * shape.block_bytes);
  return std::unique_ptr<engine>{std::make_unique<paged_engine>(std::move(parts))};
}

engine_memory estimate_draft_memory(const model_config& config, uint64_t weight_bytes,
                                    const engine_options& options, const gpu::device* device) {
  return draft_model::estimate_memory(config, weight_bytes, options, device);
}

engine_memory estimate_memory(const model_config& config, uint64_t weight_bytes,
                              const engine_options& options, const gpu::device* device) {
  const auto limits = limits_of(options);
  auto planned = options;
  planned.block_size = limits.block_size;
  planned.sequences_max = limits.sequences_max;
  const auto shape = plan_kv(config, config.type.value_or(dtype::bf16), planned);
  const auto context = context_of(config, shape, options);
  if (options.quantize != quantization::none)
    weight_bytes = quantized_bytes(config, config.type.value_or(dtype::bf16), options.quantize);
  return {weight_bytes, shape.size_bytes(),
          graph::workspace_bytes(config, largest_step(config, limits, context, device))};
}

} // namespace troupe::engine
