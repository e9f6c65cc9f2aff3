#include <algorithm>
#include <chrono>
#include <random>

#include "cli/bench/measure.hpp"
#include "engine/errors.hpp"

namespace troupe::cli::bench {
namespace {

using clock = std::chrono::steady_clock;

double seconds_since(clock::time_point begun) {
  return std::chrono::duration<double>(clock::now() - begun).count();
}

engine::sequence_request request(const engine::model_config& config, uint64_t number,
                                 uint32_t prompt, uint32_t tokens) {
  std::mt19937_64 random{number + 1};
  engine::sequence_request out;
  out.id = {number, 0};
  out.tokens.resize(prompt);
  for (auto& token : out.tokens)
    token = static_cast<engine::token_id>(random() % static_cast<uint64_t>(config.vocab_size));
  out.prompt_size = prompt;
  out.sampling.temperature = 0;
  out.sampling.max_tokens = tokens;
  out.sampling.ignore_eos = true;
  return out;
}

/// The time of all steps that the profile covers, so that what is between the ops shows.
class profile_span {
public:
  explicit profile_span(subject& of) : of_{of} {
    if (of_.profile)
      of_.profile->take_costs();
  }
  void covered(double seconds, uint64_t steps) {
    seconds_ += seconds;
    steps_ += steps;
  }
  void finish(result& to) {
    if (!of_.profile)
      return;
    to.profile = of_.profile->take_costs();
    to.profile_seconds = seconds_;
    to.profile_steps = steps_;
  }

private:
  subject& of_;
  double seconds_ = 0;
  uint64_t steps_ = 0;
};

result begin_result(const subject& of, const char* measure, uint32_t batch, uint32_t tokens,
                    uint32_t reps) {
  result out;
  out.model = of.model;
  out.dtype = of.dtype;
  out.measure = measure;
  out.batch = batch;
  out.tokens = tokens;
  out.unit = "tokens/s";
  out.reps = reps;
  out.set_bytes = of.weight_bytes;
  out.arithmetic = of.arithmetic();
  return out;
}

caf::error gave_up() {
  return caf::make_error(engine::errc::bad_numbers,
                         "the model's logits are no numbers; its weights must be damaged");
}

/// Runs steps until every one of `batch` sequences has its first token. False if stopped.
caf::expected<bool> start_all(engine::engine& model, uint32_t batch,
                              const std::atomic<bool>& stop) {
  for (uint32_t begun = 0; begun < batch;) {
    if (stop)
      return false;
    auto events = model.step();
    if (!events)
      return events.error();
    if (!model.take_failures().empty())
      return gave_up();
    begun += static_cast<uint32_t>(std::ranges::count(*events, 0u, &engine::token_event::offset));
  }
  return true;
}

} // namespace

caf::expected<std::optional<result>> measure_prefill(subject& of, uint32_t tokens, uint32_t reps,
                                                     const std::atomic<bool>& stop) {
  auto out = begin_result(of, "prefill", 1, tokens, reps);
  auto& model = *of.engine;
  std::vector<double> rates;
  std::optional<profile_span> profile;
  std::optional<neighbours> others;
  // The first one warms up: pages, threads, buffers that grow.
  for (uint32_t rep = 0; rep <= reps; ++rep) {
    if (rep == 1) {
      profile.emplace(of);
      others.emplace();
    }
    if (auto why = model.add(request(of.config, rep, tokens, 1)))
      return why;
    const auto begun = clock::now();
    uint64_t steps = 0;
    for (; !model.idle(); ++steps) {
      if (stop)
        return std::optional<result>{};
      if (const auto events = model.step(); !events)
        return events.error();
    }
    const auto took = seconds_since(begun);
    if (!model.take_failures().empty())
      return gave_up();
    if (rep == 0)
      continue;
    rates.push_back(tokens / took);
    profile->covered(took, steps);
  }
  out.value = summarize(std::move(rates));
  out.seconds = tokens / out.value.median;
  out.others = others->share();
  const auto work = of.prefill_work(tokens, engine::engine_options{}.step_tokens_max);
  out.bytes = work.bytes;
  out.flops = work.flops;
  profile->finish(out);
  return std::optional{std::move(out)};
}

caf::expected<std::optional<result>> measure_decode(subject& of, uint32_t batch, uint32_t context,
                                                    uint32_t tokens, uint32_t reps,
                                                    const std::atomic<bool>& stop) {
  auto out = begin_result(of, "decode", batch, context, reps);
  auto& model = *of.engine;
  const uint32_t decoded = tokens * reps;
  const uint32_t prompt = std::max(1u, context - std::min(context, decoded / 2));
  const auto leave = [&] {
    for (uint32_t id = 0; id < batch; ++id)
      model.cancel({id, 0});
  };
  for (uint32_t id = 0; id < batch; ++id)
    if (auto why = model.add(request(of.config, id, prompt, 2 * (decoded + context) + 16)))
      return why;
  const auto ready = start_all(model, batch, stop);
  if (!ready)
    return ready.error();
  if (const auto warm = model.step(); !warm)
    return warm.error();
  profile_span profile{of};
  const neighbours others;
  std::vector<double> rates;
  for (uint32_t rep = 0; rep < reps; ++rep) {
    size_t made = 0;
    const auto begun = clock::now();
    for (uint32_t i = 0; i < tokens; ++i) {
      if (stop || !*ready) {
        leave();
        return std::optional<result>{};
      }
      const auto events = model.step();
      if (!events)
        return events.error();
      made += events->size();
    }
    const auto took = seconds_since(begun);
    rates.push_back(static_cast<double>(made) / took);
    profile.covered(took, tokens);
  }
  leave();
  if (!model.take_failures().empty())
    return gave_up();
  out.value = summarize(std::move(rates));
  out.seconds = batch / out.value.median;
  out.others = others.share();
  const auto work = of.decode_work(batch, prompt + decoded / 2.0);
  out.bytes = work.bytes;
  out.flops = work.flops;
  profile.finish(out);
  return std::optional{std::move(out)};
}

} // namespace troupe::cli::bench
