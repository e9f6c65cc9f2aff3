#include "actors/metrics.hpp"

#include <algorithm>
#include <cmath>

namespace troupe::actors {

namespace {

using buckets = prometheus::Histogram::BucketBoundaries;

const buckets first_token_buckets{.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,
                                  .75,  1,    2.5, 5,   7.5, 10,  30,  60, 120, 300};
const buckets dispatch_buckets{50e-6,  100e-6, 150e-6, 200e-6, 250e-6,  300e-6, 400e-6,
                               500e-6, 600e-6, 800e-6, 1e-3,   1.25e-3, 1.5e-3, 2e-3,
                               3e-3,   5e-3,   10e-3,  25e-3,  100e-3,  1};
const buckets inter_token_buckets{.001, .0025, .005, .01, .025, .05, .075, .1,
                                  .15,  .2,    .3,   .4,  .5,   .75, 1,    2.5};
const buckets end_to_end_buckets{.01,  .02,  .04,  .08,   .16,   .32,   .64,
                                 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92};
const buckets cold_start_buckets{.01,  .02,  .04,   .08, .16, .32, .64, 1.28,
                                 2.56, 5.12, 10.24, 30,  60,  120, 300};

const buckets error_buckets{.01, .02, .05, .1, .15, .2, .3, .5, .75, 1, 2, 4, 8};

template <class Type>
prometheus::Family<Type>& family(prometheus::Registry& in, const char* name, const char* help) {
  return prometheus::detail::Builder<Type>{}.Name(name).Help(help).Register(in);
}

} // namespace

struct metrics::families {
  using counter = prometheus::Family<prometheus::Counter>;
  using gauge = prometheus::Family<prometheus::Gauge>;
  using histogram = prometheus::Family<prometheus::Histogram>;
  explicit families(prometheus::Registry& in)
      : running{family<prometheus::Gauge>(in, "troupe_requests_running", "Sequences on a worker")},
        waiting{family<prometheus::Gauge>(in, "troupe_requests_waiting", "Sequences in the queue")},
        kv_usage{family<prometheus::Gauge>(in, "troupe_kv_cache_usage_ratio",
                                           "Used share of the KV blocks, 0 to 1")},
        swap_bytes{family<prometheus::Gauge>(in, "troupe_swap_bytes",
                                             "Host memory that pushed out sequences take")},
        bound_bytes{family<prometheus::Gauge>(in, "troupe_load_bound_bytes",
                                              "Weights of a load that goes on beside the engine "
                                              "that have got to where that reads them")},
        steps{family<prometheus::Counter>(in, "troupe_engine_steps_total",
                                          "Batches that were computed")},
        rows{family<prometheus::Counter>(in, "troupe_engine_rows_total",
                                         "Tokens that were computed, prompts and guesses "
                                         "included")},
        guesses{family<prometheus::Counter>(in, "troupe_draft_tokens_total",
                                            "Tokens that were guessed, by whether they were "
                                            "right")},
        preemptions{family<prometheus::Counter>(
            in, "troupe_preemptions_total",
            "Sequences that had to make room, by what became of their KV")},
        state{family<prometheus::Gauge>(in, "troupe_model_state",
                                        "1 for the state that the model is in")},
        drift{family<prometheus::Gauge>(
            in, "troupe_fairness_drift_ratio",
            "Of two tenants that wait all the time: by how much their services, divided by their "
            "weights, drifted apart, in parts of the proven bound")},
        workers{family<prometheus::Gauge>(in, "troupe_workers", "Workers that are joined").Add({})},
        prompt_tokens{family<prometheus::Counter>(in, "troupe_prompt_tokens_total",
                                                  "Prompt tokens of accepted requests")},
        generated_tokens{family<prometheus::Counter>(in, "troupe_generated_tokens_total",
                                                     "Tokens that became final")},
        requests{family<prometheus::Counter>(in, "troupe_requests_total",
                                             "Requests that ended, by result")},
        evictions{family<prometheus::Counter>(in, "troupe_evictions_total",
                                              "Models that were unloaded, by reason")},
        load_bytes{family<prometheus::Counter>(in, "troupe_load_bytes_total",
                                               "Bytes of weights that were loaded")
                       .Add({})},
        load_sources{family<prometheus::Counter>(
            in, "troupe_load_source_bytes_total",
            "Bytes of weights by where workers took them from: peer (other nodes), remote, disk, "
            "pool, paged (a disk, through the page cache), cached (the page cache), "
            "device (another one of the machine)")},
        sent{family<prometheus::Counter>(in, "troupe_peer_sent_bytes_total",
                                         "Bytes of weights that this node sent to other nodes")
                 .Add({})},
        queue_time{family<prometheus::Histogram>(in, "troupe_request_queue_time_seconds",
                                                 "Acceptance to first dispatch")},
        dispatch{family<prometheus::Histogram>(
            in, "troupe_request_dispatch_seconds",
            "Last byte in to first engine step, of requests to loaded models")},
        first_token{family<prometheus::Histogram>(in, "troupe_time_to_first_token_seconds",
                                                  "Acceptance to first token")},
        inter_token{family<prometheus::Histogram>(in, "troupe_inter_token_latency_seconds",
                                                  "Between tokens of one sequence")},
        end_to_end{family<prometheus::Histogram>(in, "troupe_e2e_request_latency_seconds",
                                                 "Acceptance to last token")},
        cold_start{
            family<prometheus::Histogram>(in, "troupe_cold_start_seconds", "Load order to ready")},
        foretelling{family<prometheus::Histogram>(
            in, "troupe_first_token_prediction_error_ratio",
            "Predicted time to first token against the real one: |predicted / real - 1|, by where "
            "the weights were")} {}
  gauge &running, &waiting, &kv_usage, &swap_bytes, &bound_bytes;
  counter &steps, &rows, &guesses, &preemptions;
  gauge &state, &drift;
  prometheus::Gauge& workers;
  counter &prompt_tokens, &generated_tokens, &requests, &evictions;
  prometheus::Counter& load_bytes;
  counter& load_sources;
  prometheus::Counter& sent;
  histogram &queue_time, &dispatch, &first_token, &inter_token, &end_to_end, &cold_start,
      &foretelling;
};

metrics::metrics()
    : registry_{std::make_shared<prometheus::Registry>()}, families_{std::make_unique<families>(
                                                               *registry_)} {
  families_->workers.Set(0);
}

metrics::~metrics() = default;

model_metrics& metrics::of(const model_id& model) {
  const std::lock_guard guard{mutex_};
  auto& out = models_[model.text];
  if (out)
    return *out;
  auto& f = *families_;
  const prometheus::Labels label{{"model", model.text}};
  const auto state = [&](const char* name) {
    return &f.state.Add({{"model", model.text}, {"state", name}});
  };
  out = std::make_unique<model_metrics>(
      model_metrics{&f.running.Add(label),
                    &f.waiting.Add(label),
                    &f.kv_usage.Add(label),
                    &f.swap_bytes.Add(label),
                    &f.bound_bytes.Add(label),
                    &f.steps.Add(label),
                    &f.rows.Add(label),
                    &f.guesses.Add({{"model", model.text}, {"result", "wrong"}}),
                    &f.guesses.Add({{"model", model.text}, {"result", "right"}}),
                    &f.preemptions.Add({{"model", model.text}, {"kind", "recompute"}}),
                    &f.preemptions.Add({{"model", model.text}, {"kind", "swap"}}),
                    &f.prompt_tokens.Add(label),
                    &f.generated_tokens.Add(label),
                    &f.queue_time.Add(label, first_token_buckets),
                    &f.dispatch.Add(label, dispatch_buckets),
                    &f.first_token.Add(label, first_token_buckets),
                    &f.inter_token.Add(label, inter_token_buckets),
                    &f.end_to_end.Add(label, end_to_end_buckets),
                    &f.cold_start.Add(label, cold_start_buckets),
                    state("cold"),
                    state("loading"),
                    state("ready"),
                    state("failed")});
  return *out;
}

void model_metrics::add(const engine::engine_counters& work) {
  const auto count = [](prometheus::Counter* to, uint64_t more) {
    to->Increment(static_cast<double>(more));
  };
  count(steps, work.steps);
  count(rows, work.rows);
  count(wrong_guesses, work.guesses - std::min(work.guesses, work.right_guesses));
  count(right_guesses, work.right_guesses);
  count(recomputed, work.recomputed);
  count(swapped, work.swapped);
  swap_bytes->Set(static_cast<double>(work.swap_bytes));
}

void metrics::request_ended(const model_id& model, const std::string& result) {
  families_->requests.Add({{"model", model.text}, {"result", result}}).Increment();
}

void metrics::evicted(const std::string& reason) {
  families_->evictions.Add({{"reason", reason}}).Increment();
}

void metrics::loaded(uint64_t bytes) {
  families_->load_bytes.Increment(static_cast<double>(bytes));
}

void metrics::came_from(const std::string& tier, double bytes) {
  if (bytes > 0)
    families_->load_sources.Add({{"source", tier}}).Increment(bytes);
}

void metrics::sent_to_peers(double bytes) { families_->sent.Increment(bytes); }

void metrics::worker_count(size_t count) { families_->workers.Set(static_cast<double>(count)); }

void metrics::fairness(const model_id& model, const std::vector<policies::pair_drift>& pairs) {
  const std::lock_guard guard{mutex_};
  const auto at = drifts_.find(model.text);
  if (pairs.empty() && at == drifts_.end())
    return;
  auto& shown = at == drifts_.end() ? drifts_[model.text] : at->second;
  auto gone = std::exchange(shown, {});
  for (const auto& x : pairs) {
    const auto key = std::minmax(x.first, x.second);
    auto& gauge = shown[key];
    if (auto kept = gone.extract(key))
      gauge = kept.mapped();
    else if (!gauge)
      gauge = &families_->drift.Add(
          {{"model", model.text}, {"tenant", key.first}, {"other", key.second}});
    gauge->Set(x.bound > 0 ? x.drift / x.bound : 0);
  }
  for (const auto& [key, gauge] : gone)
    families_->drift.Remove(gauge);
  if (shown.empty())
    drifts_.erase(model.text);
}

void metrics::foretold(const std::string& state, double predicted, double real) {
  if (real > 0)
    families_->foretelling.Add({{"state", state}}, error_buckets)
        .Observe(std::abs(predicted / real - 1));
}

} // namespace troupe::actors
