#include "engine/batch/draft_model.hpp"

#include <algorithm>

#include "engine/errors.hpp"

namespace troupe::engine {

namespace {

constexpr double newest_part = 0.1;

/// The engine's options as they hold for its draft model, which needs a fraction of the memory.
engine_options drafting_options(const engine_options& options, const kv_memory* memory) {
  auto out = options;
  out.kv_bytes = (memory ? std::min(options.kv_bytes, memory->size_bytes()) : options.kv_bytes) / 4;
  out.kv_type.reset();
  return out;
}

struct draft_shape {
  kv_shape kv;
  row_chooser::extent choices;
  step_size largest;
};

draft_shape shape_of(const model_config& config, dtype weights, int64_t vocabulary,
                     const engine_options& options, const gpu::device* device,
                     const kv_memory* memory = nullptr) {
  draft_shape out;
  out.kv = plan_kv(config, weights, drafting_options(options, memory), memory);
  out.choices = {config.vocab_size, vocabulary, options.sequences_max};
  out.largest.rows = int64_t{draft_model::chunk_rows} + options.sequences_max;
  out.largest.sequences = out.largest.logit_rows = options.sequences_max;
  out.largest.blocks = std::min<int64_t>(
      out.kv.blocks, (config.context_length + out.kv.block_size - 1) / out.kv.block_size);
  out.largest.choice_bytes = row_chooser::room_bytes(device, out.choices);
  if (device != nullptr)
    out.largest.scratch_bytes =
        graph::scratch_bytes(config, out.largest, out.kv.block_size, *device);
  return out;
}

bool contains(const std::vector<token_id>& ids, token_id id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

} // namespace

draft_model::draft_model(parts built)
    : parts_{std::move(built)}, blocks_{parts_.kv, parts_.reuse_prefixes} {
  parts_.kv.join(*this);
}

caf::expected<std::unique_ptr<draft_model>>
draft_model::create(const draft_source& source, gpu::device& device, int64_t vocabulary,
                    const engine_options& options, device_share share) {
  const auto& config = *source.config;
  auto weights = place_weights(config, source.lookup, source.checkpoint, source.keep_alive, device,
                               options, share.twins.get());
  if (!weights)
    return weights.error();
  const auto* memory = share.kv.get();
  const auto shape =
      shape_of(config, (*weights)->embedding.type, vocabulary, options, &device, memory);
  if (shape.kv.tokens() < 2)
    return caf::make_error(errc::out_of_memory,
                           "a quarter of the KV memory of " +
                               std::to_string(memory
                                                  ? std::min(options.kv_bytes, memory->size_bytes())
                                                  : options.kv_bytes) +
                               " bytes holds no two tokens of the draft model; give it more");
  auto kv = kv_arena::create(config, shape.kv, device, share.kv);
  if (!kv)
    return kv.error();
  auto forward = graph::create(config, **weights, device, shape.largest, std::move(share.work));
  if (!forward)
    return forward.error();
  parts built{config,
              source.keep_alive,
              std::move(*weights),
              std::move(*forward),
              std::move(*kv),
              row_chooser{device, shape.choices},
              options.sequences_max,
              options.reuse_prefixes,
              options.clock};
  return std::unique_ptr<draft_model>{new draft_model{std::move(built)}};
}

engine_memory draft_model::estimate_memory(const model_config& config, uint64_t weight_bytes,
                                           const engine_options& options,
                                           const gpu::device* device) {
  const auto type = config.type.value_or(dtype::bf16);
  const auto shape = shape_of(config, type, config.vocab_size, options, device);
  if (options.quantize != quantization::none)
    weight_bytes = quantized_bytes(config, type, options.quantize);
  return {weight_bytes, shape.kv.size_bytes(), graph::workspace_bytes(config, shape.largest)};
}

engine_memory draft_model::memory() const {
  return {parts_.weights->size_bytes, parts_.kv.size_bytes(), parts_.forward->workspace_bytes()};
}

void draft_model::guess(std::span<const guess_wish> wishes) {
  for (auto& one : mirrors_)
    one.wish = nullptr;
  for (const auto& wish : wishes) {
    wish.out->clear();
    if (wish.most > 0 && !failure_)
      follow(mirror_of(wish));
  }
  auto chunk = chunk_rows;
  for (auto& one : mirrors_) {
    one.rows = 0;
    if (one.wish == nullptr)
      continue;
    const auto lacking = missing(one);
    const auto rows = lacking == 1 ? 1 : static_cast<uint32_t>(std::min<size_t>(lacking, chunk));
    if (plan_pass(one, rows) && lacking > 1)
      chunk -= rows;
  }
  run_pass();
  for (bool again = true; again && !failure_;) {
    again = false;
    for (auto& one : mirrors_) {
      const auto* wish = one.wish;
      one.rows = 0;
      if (wish != nullptr && !wish->out->empty() && wish->out->size() < wish->most &&
          !contains(parts_.config.eos_token_ids, wish->out->back()))
        again |= plan_pass(one, 1);
    }
    run_pass();
  }
  blocks_.trim();
}

void draft_model::forget(sequence_id id) {
  for (auto one = mirrors_.begin(); one != mirrors_.end(); ++one)
    if (one->id == id) {
      blocks_.give_back(one->blocks);
      blocks_.trim();
      mirrors_.erase(one);
      return;
    }
}

/// The mirror of the wish's sequence, made if need be, as the one asked about last.
draft_model::mirror& draft_model::mirror_of(const guess_wish& wish) {
  const auto& request = *wish.of;
  const auto found = std::find_if(mirrors_.begin(), mirrors_.end(),
                                  [&](const mirror& one) { return one.id == request.id; });
  if (found != mirrors_.end()) {
    mirrors_.splice(mirrors_.begin(), mirrors_, found);
  } else {
    if (mirrors_.size() >= parts_.sequences_max)
      forget(mirrors_.back().id);
    auto& one = mirrors_.emplace_front();
    one.id = request.id;
    one.sampling = request.sampling;
    one.sampling.top_logprobs = -1;
    one.salt = request.salt;
  }
  auto& one = mirrors_.front();
  one.wish = &wish;
  return one;
}

/// Takes back what turned out otherwise than guessed. The last token is always left to compute.
void draft_model::follow(mirror& one) {
  const auto said = std::span{one.wish->of->tokens}.first(one.wish->of->tokens.size() - 1);
  const auto parting =
      std::mismatch(said.begin(), said.end(), one.tokens.begin(), one.tokens.end());
  const auto common = static_cast<size_t>(parting.first - said.begin());
  const auto block_size = static_cast<size_t>(parts_.kv.shape().block_size);
  if (one.blocks.empty() || common < one.remembered * block_size) {
    blocks_.give_back(one.blocks);
    blocks_.find_prefix(one.salt, said, said.size() / block_size, one.blocks);
    one.remembered = one.blocks.size();
    const auto known = said.first(one.remembered * block_size);
    one.tokens.assign(known.begin(), known.end());
    return;
  }
  one.tokens.resize(common);
  for (; (one.remembered + 1) * block_size <= common; ++one.remembered)
    blocks_.remember(one.salt, one.tokens, std::span{one.blocks}.first(one.remembered + 1));
}

/// A token of the sequence, its guesses included.
token_id draft_model::token_at(const mirror& one, size_t position) const {
  const auto& said = one.wish->of->tokens;
  return position < said.size() ? said[position] : (*one.wish->out)[position - said.size()];
}

size_t draft_model::missing(const mirror& one) const {
  return one.wish->of->tokens.size() + one.wish->out->size() - one.tokens.size();
}

/// Gives the sequence rows of the next pass, or gives its guesses up: it is longer than this
/// model's context, has a token that this model does not know, or there is no room for it.
bool draft_model::plan_pass(mirror& one, uint32_t rows) {
  const auto first = one.tokens.size(), end = first + rows;
  bool fits = end <= static_cast<size_t>(parts_.config.context_length);
  for (auto at = first; at < end && fits; ++at)
    fits = token_at(one, at) < parts_.config.vocab_size;
  const auto block_size = static_cast<size_t>(parts_.kv.shape().block_size);
  const auto more = static_cast<int32_t>((end + block_size - 1) / block_size) -
                    static_cast<int32_t>(one.blocks.size());
  if (fits && more > 0)
    fits = take_blocks(more, one);
  if (!fits) {
    one.wish = nullptr;
    return false;
  }
  one.rows = rows;
  return rows > 0;
}

bool draft_model::take_blocks(int32_t count, mirror& one) {
  while (!blocks_.take(count, one.blocks))
    if (!drop_oldest())
      return false;
  return true;
}

/// Forgets the sequence that was not asked about for longest, and not now. False if there is none.
bool draft_model::drop_oldest() {
  const auto victim = std::find_if(mirrors_.rbegin(), mirrors_.rend(), [](const mirror& one) {
    return one.wish == nullptr && !one.blocks.empty();
  });
  if (victim == mirrors_.rend())
    return false;
  blocks_.give_back(victim->blocks);
  victim->tokens.clear();
  return true;
}

policies::kv_holding draft_model::holding() const {
  const auto spans = static_cast<uint64_t>(parts_.kv.shape().run_spans);
  policies::kv_holding out;
  out.held = static_cast<uint64_t>(parts_.kv.runs_here() - blocks_.spare_runs()) * spans;
  out.spare = static_cast<uint64_t>(blocks_.spare_runs()) * spans;
  out.spare_since = blocks_.spare_since();
  out.is_draft = true;
  return out;
}

void draft_model::push_out() {
  for (auto& one : mirrors_)
    one.wish = nullptr;
  drop_oldest();
  blocks_.trim();
}

/// Computes the planned rows, and guesses a token for each sequence that is computed to its end.
void draft_model::run_pass() {
  batch_.clear();
  parts_.choices.clear();
  size_t widest = 0;
  for (const auto& one : mirrors_)
    if (one.rows > 0)
      widest = std::max(widest, one.blocks.size());
  batch_.table_stride = parts_.forward->table_stride(widest);
  for (auto& one : mirrors_) {
    if (one.rows == 0)
      continue;
    const auto first = one.tokens.size();
    const bool is_whole = one.rows == missing(one);
    for (uint32_t i = 0; i < one.rows; ++i)
      one.tokens.push_back(token_at(one, first + i));
    batch_.append({first, one.rows, is_whole ? size_t{1} : 0}, one.blocks, parts_.kv,
                  [&](size_t at) { return one.tokens[at]; });
    if (is_whole)
      parts_.choices.add(
          {one.sampling, one.tokens, {}, one.wish->of->prompt_size, parts_.config.eos_token_ids});
  }
  if (batch_.tokens.empty())
    return;
  const auto begun = now();
  const auto logits = parts_.forward->queue(batch_, parts_.kv);
  failure_ =
      logits ? parts_.choices.choose(*logits, parts_.forward->choice_room()) : logits.error();
  if (failure_)
    return;
  add_guesses();
  const auto ms = std::chrono::duration<double, std::milli>(now() - begun).count();
  // After right guesses there are two rows: what the model said behind them, too.
  if (batch_.tokens.size() <= 2 * batch_.context.size())
    pass_ms_ = pass_ms_ == 0 ? ms : pass_ms_ + newest_part * (ms - pass_ms_);
}

void draft_model::add_guesses() {
  size_t row = 0;
  for (auto& one : mirrors_) {
    if (one.rows == 0 || missing(one) > 0)
      continue;
    const auto guessed = parts_.choices.take(
        row++, {one.sampling, one.tokens, one.wish->of->prompt_size, parts_.config.eos_token_ids});
    if (guessed)
      one.wish->out->push_back(guessed->token);
    else
      one.wish = nullptr; // bad numbers: of this model only
  }
}

} // namespace troupe::engine
