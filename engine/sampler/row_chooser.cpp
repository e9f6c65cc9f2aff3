#include "engine/sampler/row_chooser.hpp"

#include <algorithm>
#include <limits>

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

bool chooses(const gpu::device* device, const row_chooser::extent& of) {
  return (device == nullptr || device->chooses()) &&
         std::min(of.width, of.vocabulary) <= gpu::choose_vocabulary_max;
}

size_t edits_of(int64_t rows_max) {
  return static_cast<size_t>(std::min(rows_max * edits_per_row, edits_most));
}

/// Where things lie in the room, one behind the other.
struct room_parts {
  room_parts(size_t rows, size_t edits)
      : edits_at{rounded(rows * sizeof(gpu::choose_row))},
        chosen_at{edits_at + rounded(edits * sizeof(gpu::choose_edit))},
        size_bytes{chosen_at + rounded(rows * sizeof(gpu::chosen_token))} {}

  static size_t rounded(size_t size_bytes) { return (size_bytes + 63) / 64 * 64; }
  size_t edits_at, chosen_at, size_bytes;
};

} // namespace

row_chooser::row_chooser(gpu::device& device, const extent& of)
    : device_{&device}, width_{of.width}, vocabulary_{of.vocabulary} {
  on_device_ = chooses(device_, of);
  if (!on_device_)
    return;
  rows_max_ = static_cast<size_t>(of.rows_max);
  edits_max_ = edits_of(of.rows_max);
  how_.reserve(rows_max_);
  edits_.reserve(edits_max_);
  chosen_.resize(rows_max_);
  edit_of_.resize(static_cast<size_t>(std::min(of.width, of.vocabulary)));
}

uint64_t row_chooser::room_bytes(const gpu::device* device, const extent& of) {
  return chooses(device, of)
             ? room_parts{static_cast<size_t>(of.rows_max), edits_of(of.rows_max)}.size_bytes
             : 0;
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

caf::error row_chooser::choose(float* logits, std::byte* room) {
  logits_ = {};
  if (rows_ > 0 && on_device_) {
    const room_parts parts{rows_max_, edits_max_};
    auto* const how = reinterpret_cast<gpu::choose_row*>(room);
    auto* const edits = reinterpret_cast<gpu::choose_edit*>(room + parts.edits_at);
    auto* const chosen = reinterpret_cast<gpu::chosen_token*>(room + parts.chosen_at);
    gpu::choose_args args;
    args.logits = logits;
    args.stride = width_;
    args.rows = static_cast<int64_t>(rows_);
    args.vocabulary = std::min(width_, vocabulary_);
    args.how = how;
    args.edits = edits;
    args.out = chosen;
    for (const auto& one : how_) {
      args.any_edits |= one.edits > 0;
      args.any_draws |= one.temperature > 0;
      args.any_tops |= one.top >= 0;
    }
    device_->copy_to_device(how, how_.data(), rows_ * sizeof(how_[0]));
    device_->copy_to_device(edits, edits_.data(), edits_.size() * sizeof(edits_[0]));
    device_->choose(args);
    device_->copy_to_host(chosen_.data(), chosen, rows_ * sizeof(chosen_[0]));
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
