#include "engine/sampler/row_chooser.hpp"

#include <algorithm>
#include <limits>

#include "engine/errors.hpp"
#include "engine/sampler/philox.hpp"

namespace troupe::engine {

namespace {

/// Different tokens that penalties touch, in rows of usual length.
constexpr int64_t edits_per_row = 4096;
constexpr int64_t edits_most = int64_t{1} << 18;

bool has_penalties(const sampling_params& params) {
  return params.repetition_penalty != 1.0f || params.presence_penalty != 0.0f ||
         params.frequency_penalty != 0.0f;
}

uint64_t rounded(uint64_t size_bytes) { return (size_bytes + 63) / 64 * 64; }

} // namespace

caf::expected<row_chooser> row_chooser::create(gpu::device& device, int64_t width,
                                               int64_t vocabulary, int64_t rows_max) {
  row_chooser out;
  out.device_ = &device;
  out.width_ = width;
  out.vocabulary_ = vocabulary;
  out.on_device_ = device.chooses() && std::min(width, vocabulary) <= gpu::choose_vocabulary_max;
  if (!out.on_device_)
    return out;
  const auto rows = static_cast<size_t>(rows_max);
  out.edits_max_ = static_cast<size_t>(std::min(rows_max * edits_per_row, edits_most));
  const auto how_bytes = rounded(rows * sizeof(gpu::choose_row));
  const auto edit_bytes = rounded(out.edits_max_ * sizeof(gpu::choose_edit));
  const auto size = how_bytes + edit_bytes + rows * sizeof(gpu::chosen_token);
  auto memory = device.allocate(size);
  if (!memory)
    return caf::make_error(errc::out_of_memory, "allocating " + std::to_string(size) +
                                                    " bytes to choose tokens on " + device.name() +
                                                    ": " + describe(memory.error()));
  out.memory_ = std::move(*memory);
  auto* base = out.memory_.as<std::byte>();
  out.how_there_ = reinterpret_cast<gpu::choose_row*>(base);
  out.edits_there_ = reinterpret_cast<gpu::choose_edit*>(base + how_bytes);
  out.chosen_there_ = reinterpret_cast<gpu::chosen_token*>(base + how_bytes + edit_bytes);
  out.how_.reserve(rows);
  out.edits_.reserve(out.edits_max_);
  out.chosen_.resize(rows);
  out.edit_of_.resize(static_cast<size_t>(std::min(width, vocabulary)));
  return out;
}

void row_chooser::clear() {
  rows_ = 0;
  how_.clear();
  edits_.clear();
}

void row_chooser::add(const row& next) {
  ++rows_;
  if (!on_device_)
    return;
  const auto& params = next.params;
  gpu::choose_row to;
  to.random = random_at(params.seed, next.tokens.size() + next.guesses.size());
  to.temperature = params.temperature;
  to.top_p = params.top_p;
  to.min_p = params.min_p;
  to.top_k = std::max(params.top_k, 0);
  to.repetition_penalty = params.repetition_penalty;
  to.presence_penalty = params.presence_penalty;
  to.frequency_penalty = params.frequency_penalty;
  to.top = params.top_logprobs;
  to.is_left_out = !add_edits(next, to) || to.top > gpu::choose_top_max ? 1 : 0;
  how_.push_back(to);
}

/// False if the device cannot take them.
bool row_chooser::add_edits(const row& next, gpu::choose_row& to) {
  const auto& params = next.params;
  const auto first = edits_.size();
  bool fits = true;
  // Tokens that this model does not have are nothing to it.
  const auto edit = [&](token_id token, const auto& change) {
    if (static_cast<size_t>(token) >= edit_of_.size() || !fits)
      return;
    auto& number = edit_of_[static_cast<size_t>(token)];
    if (number == 0) {
      fits = edits_.size() < edits_max_;
      if (!fits)
        return;
      edits_.push_back({token});
      number = static_cast<uint32_t>(edits_.size());
    }
    change(edits_[number - 1]);
  };
  for (const auto& [token, bias] : params.logit_bias)
    edit(token, [&, by = bias](gpu::choose_edit& one) {
      fits &= one.bias == 0.0f; // two additions cannot be made one
      one.bias = by;
    });
  const auto known = next.tokens.size() + next.guesses.size();
  if (known - next.prompt_size < params.min_tokens)
    for (const auto& ids : {next.end_tokens, std::span<const token_id>{params.stop_token_ids}})
      for (const auto token : ids)
        edit(token, [](auto& one) { one.what |= gpu::choose_edit::suppressed; });
  if (has_penalties(params))
    for (size_t i = 0; i < known && fits; ++i)
      edit(i < next.tokens.size() ? next.tokens[i] : next.guesses[i - next.tokens.size()],
           [&](auto& one) {
             one.what |= gpu::choose_edit::seen;
             one.count += i >= next.prompt_size ? 1 : 0;
           });
  for (auto i = first; i < edits_.size(); ++i)
    edit_of_[static_cast<size_t>(edits_[i].token)] = 0;
  if (!fits)
    edits_.resize(first);
  to.first_edit = static_cast<int32_t>(first);
  to.edits = static_cast<int32_t>(edits_.size() - first);
  return fits;
}

/// Copies logits that the host has to look at.
caf::error row_chooser::bring(float* logits) {
  const auto width = static_cast<size_t>(width_);
  const auto is_wanted = [&](size_t i) { return !on_device_ || how_[i].is_left_out != 0; };
  if (device_->reads_host_memory()) {
    logits_ = {logits, rows_ * width};
    return {};
  }
  bool any = false;
  for (size_t i = 0; i < rows_; ++i)
    any |= is_wanted(i);
  if (!any)
    return {};
  host_logits_.resize(std::max(host_logits_.size(), rows_ * width));
  for (size_t i = 0; i < rows_;) {
    auto end = i;
    while (end < rows_ && is_wanted(end))
      ++end;
    if (end > i)
      device_->copy_to_host(&host_logits_[i * width], logits + i * width,
                            (end - i) * width * sizeof(float));
    i = std::max(end, i + 1);
  }
  logits_ = std::span{host_logits_}.first(rows_ * width);
  return {};
}

caf::error row_chooser::choose(float* logits) {
  logits_ = {};
  if (rows_ > 0 && on_device_) {
    gpu::choose_args args;
    args.logits = logits;
    args.stride = width_;
    args.rows = static_cast<int64_t>(rows_);
    args.vocabulary = std::min(width_, vocabulary_);
    args.how = how_there_;
    args.edits = edits_there_;
    args.out = chosen_there_;
    for (const auto& one : how_) {
      args.any_edits |= one.edits > 0;
      args.any_draws |= one.temperature > 0;
      args.any_tops |= one.top >= 0;
    }
    device_->copy_to_device(how_there_, how_.data(), rows_ * sizeof(how_[0]));
    device_->copy_to_device(edits_there_, edits_.data(), edits_.size() * sizeof(edits_[0]));
    device_->choose(args);
    device_->copy_to_host(chosen_.data(), chosen_there_, rows_ * sizeof(chosen_[0]));
  }
  if (auto why = bring(logits))
    return why;
  return device_->synchronize();
}

std::span<float> row_chooser::in_vocabulary(std::span<float> logits) {
  const auto vocabulary = static_cast<size_t>(vocabulary_);
  if (logits.size() >= vocabulary)
    return logits.first(vocabulary);
  widened_.assign(vocabulary, -std::numeric_limits<float>::infinity());
  std::copy(logits.begin(), logits.end(), widened_.begin());
  return widened_;
}

caf::expected<sampled_token> row_chooser::take(size_t number, const sampling_context& context) {
  const auto width = static_cast<size_t>(width_);
  if (!on_device_ || how_[number].is_left_out != 0)
    return sampler_.sample(in_vocabulary(logits_.subspan(number * width, width)), context);
  const auto& chosen = chosen_[number];
  if (chosen.is_sound == 0)
    return bad_numbers();
  sampled_token out;
  out.token = chosen.token;
  if (context.params.top_logprobs < 0)
    return out;
  out.logprob = logprob_of(chosen.logit, chosen.highest, chosen.mass);
  out.top.reserve(static_cast<size_t>(chosen.tops));
  for (int32_t i = 0; i < chosen.tops; ++i)
    out.top.push_back(
        {chosen.top_tokens[i], logprob_of(chosen.top_logits[i], chosen.highest, chosen.mass)});
  return out;
}

} // namespace troupe::engine
