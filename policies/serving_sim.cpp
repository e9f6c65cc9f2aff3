#include "policies/serving_sim.hpp"

#include <algorithm>
#include <cmath>
#include <random>

namespace troupe::policies {

engine_model engine_model::a10g() {
  return {.name = "Llama-7B, A10G",
          .pool_tokens = 10'000,
          .prefill_ms = 1.146,
          .prefill_token_ms = 0.2131,
          .step_ms = 29.87,
          .step_request_ms = 0.0462,
          .step_context_ms = 0.00094,
          .prefill_tokens_max = 3072};
}

engine_model engine_model::a100(uint64_t pool_tokens) {
  return {.name = "Llama-13B, A100",
          .pool_tokens = pool_tokens,
          .prefill_ms = 0,
          .prefill_token_ms = 0.2828,
          .step_ms = 18.02,
          .step_request_ms = 0,
          .step_context_ms = 0.000507,
          .prefill_tokens_max = std::max<uint64_t>(pool_tokens / 6, 3072)};
}

namespace {

struct running {
  uint32_t index = 0;
  uint32_t context = 0; ///< tokens held now
  uint32_t left = 0;    ///< tokens still to come
};

class simulator {
public:
  simulator(const simulation& what, fair_queue& queue)
      : what_{what}, queue_{queue}, random_{what.seed} {
    out_.outcomes.resize(what.requests.size());
    served_.resize(what.clients.size());
  }

  simulation_result run() {
    while (next_ < what_.requests.size() || !batch_.empty() || queue_.waiting() > 0) {
      if (batch_.empty() && queue_.waiting() == 0)
        pass(std::max(now_, what_.requests[next_].arrival) - now_);
      arrive();
      if (batch_.empty() || steps_since_ >= what_.engine.admission_steps)
        admit();
      if (!batch_.empty())
        decode();
    }
    out_.end = now_;
    sample(what_.seconds);
    return std::move(out_);
  }

private:
  void arrive() {
    for (; next_ < what_.requests.size() && what_.requests[next_].arrival <= now_; ++next_) {
      const auto& x = what_.requests[next_];
      fair_request request{.id = next_};
      request.shares[0] = {x.client, what_.clients[x.client].weight};
      request.input_tokens = x.input;
      request.output_max = std::numeric_limits<uint32_t>::max();
      if (what_.oracle == length_oracle::exact)
        request.predicted_output = x.output;
      if (what_.oracle == length_oracle::within_half) {
        const auto part = 0.5 + static_cast<double>(random_() >> 11) * 0x1p-53;
        request.predicted_output = static_cast<uint32_t>(std::lround(x.output * part));
      }
      const auto when = instant{} + std::chrono::duration_cast<duration>(
                                        std::chrono::duration<double>{x.arrival});
      out_.outcomes[next_].refused = queue_.arrive(request, when) != fair_arrival::queued;
    }
  }

  /// Whether all fit even if each grows to its end: as those with the least left go, the rest goes
  /// on growing.
  bool fits(const std::vector<running>& joining, const running& more) {
    sorted_ = batch_;
    sorted_.insert(sorted_.end(), joining.begin(), joining.end());
    sorted_.push_back(more);
    std::sort(sorted_.begin(), sorted_.end(),
              [](const running& a, const running& b) { return a.left > b.left; });
    uint64_t held = 0, count = 0;
    for (const auto& x : sorted_) {
      held += x.context;
      ++count;
      if (x.left * count + held >= what_.engine.pool_tokens)
        return false;
    }
    return true;
  }

  void admit() {
    steps_since_ = 0;
    std::vector<running> joining;
    uint64_t tokens = 0;
    double took = 0;
    while (const auto* next = queue_.next()) {
      const auto index = static_cast<uint32_t>(next->id);
      const auto& x = what_.requests[index];
      const running candidate{index, x.input, x.output};
      if ((tokens + x.input > what_.engine.prefill_tokens_max && !joining.empty()) ||
          !fits(joining, candidate))
        break;
      queue_.take();
      joining.push_back(candidate);
      tokens += x.input;
      took += what_.engine.prefill_ms + what_.engine.prefill_token_ms * x.input;
      render(index, x.input, 0);
    }
    if (joining.empty())
      return;
    pass(took / 1000);
    for (auto& x : joining) // a prefill makes the first token
      make_token(x);
    batch_.insert(batch_.end(), joining.begin(), joining.end());
    drop_finished();
  }

  void decode() {
    uint64_t context = 0;
    for (const auto& x : batch_)
      context += x.context;
    const auto& engine = what_.engine;
    const auto batch = static_cast<double>(batch_.size());
    pass((engine.step_ms + engine.step_request_ms * batch +
          engine.step_context_ms * static_cast<double>(context)) /
         1000);
    for (auto& x : batch_)
      make_token(x);
    drop_finished();
    ++steps_since_;
    ++out_.steps;
  }

  void make_token(running& x) {
    auto& outcome = out_.outcomes[x.index];
    if (std::isnan(outcome.first_token))
      outcome.first_token = now_;
    ++x.context;
    --x.left;
    queue_.charge(x.index, 1);
    render(x.index, 0, 1);
    if (x.left > 0)
      return;
    outcome.finished = now_;
    queue_.finish(x.index);
  }

  void drop_finished() {
    std::erase_if(batch_, [](const running& x) { return x.left == 0; });
  }

  void render(uint32_t index, uint32_t input, uint32_t output) {
    served_[what_.requests[index].client] += input + 2.0 * output;
  }

  void pass(double seconds) {
    sample(std::min(now_ + seconds, what_.seconds));
    now_ += seconds;
  }

  void sample(double until) {
    while (static_cast<double>(out_.service.size()) <= until)
      out_.service.push_back(served_);
  }

  const simulation& what_;
  fair_queue& queue_;
  std::mt19937_64 random_;
  simulation_result out_;
  std::vector<running> batch_, sorted_;
  std::vector<double> served_;
  double now_ = 0;
  size_t next_ = 0;
  uint32_t steps_since_ = 0;
};

} // namespace

simulation_result simulate(const simulation& what, fair_queue& queue) {
  return simulator{what, queue}.run();
}

} // namespace troupe::policies
