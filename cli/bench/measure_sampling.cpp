#include <chrono>
#include <random>

#include "cli/bench/measure.hpp"
#include "engine/sampler/sampler.hpp"

namespace troupe::cli::bench {
namespace {

using clock = std::chrono::steady_clock;

constexpr int draws_per_rep = 50;

struct filter {
  const char* name;
  float spread; ///< standard deviation of the logits: 2.5 = a flat choice, 6 = a peaked one
  float temperature = 1.0f;
  float top_p = 1.0f;
  int32_t top_k = 0;
  int32_t logprobs = -1;
};

constexpr filter filters[] = {
    {.name = "greedy", .spread = 2.5f, .temperature = 0},
    {.name = "plain", .spread = 2.5f},
    {.name = "top_k 40", .spread = 2.5f, .top_k = 40},
    {.name = "top_p 0.9", .spread = 2.5f, .top_p = 0.9f},
    {.name = "top_p 0.9, peaked", .spread = 6, .top_p = 0.9f},
    {.name = "top_k 40, top_p 0.9", .spread = 2.5f, .top_p = 0.9f, .top_k = 40},
    {.name = "5 logprobs", .spread = 2.5f, .logprobs = 5},
};

} // namespace

std::vector<result> measure_sampling(const std::string& model, int64_t vocabulary, uint32_t reps,
                                     const std::atomic<bool>& stop) {
  std::vector<result> out;
  const std::vector<engine::token_id> tokens(8, 1);
  for (const auto& one : filters) {
    std::mt19937_64 random{1};
    std::normal_distribution<float> normal{0, one.spread};
    std::vector<float> source(static_cast<size_t>(vocabulary)), logits;
    for (auto& logit : source)
      logit = normal(random);
    engine::sampling_params params;
    params.temperature = one.temperature;
    params.top_p = one.top_p;
    params.top_k = one.top_k;
    params.top_logprobs = one.logprobs;
    engine::sampler chooser;
    std::vector<double> times;
    const neighbours others;
    for (uint32_t rep = 0; rep <= reps; ++rep) {
      if (stop)
        return out;
      clock::duration took{};
      for (int i = 0; i < draws_per_rep; ++i) {
        ++params.seed;
        logits = source; // a draw overwrites them
        const auto begun = clock::now();
        (void)chooser.sample(logits, {params, tokens, 4, {}});
        took += clock::now() - begun;
      }
      if (rep > 0) // the first one lets its buffers grow
        times.push_back(std::chrono::duration<double, std::micro>(took).count() / draws_per_rep);
    }
    result line;
    line.model = model;
    line.dtype = "f32";
    line.measure = "sample";
    line.variant = one.name;
    line.unit = "us";
    line.reps = reps;
    line.value = summarize(std::move(times));
    line.seconds = line.value.median * 1e-6;
    line.others = others.share();
    out.push_back(std::move(line));
  }
  return out;
}

} // namespace troupe::cli::bench
