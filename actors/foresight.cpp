#include "actors/foresight.hpp"

#include <algorithm>

namespace troupe::actors {

namespace {

/// Of small models: the scheduler does not know how many a model has, and the last of more is
/// little beside a load.
constexpr uint32_t usual_layers = 16;

double seconds(duration x) { return std::chrono::duration<double>(x).count(); }

/// What comes from elsewhere may be run as soon as it comes.
double early_seconds(const load_account& load) {
  return load.bytes[static_cast<size_t>(policies::load_tier::remote)] > 0
             ? load.seconds.total
             : policies::early_seconds_max;
}

} // namespace

std::string_view state_of(const policies::tier_bytes& bytes) {
  using policies::load_tier;
  const auto has = [&](load_tier tier) { return bytes[static_cast<size_t>(tier)] > 0; };
  return has(load_tier::remote)                          ? "source"
         : has(load_tier::disk) && has(load_tier::pool)  ? "pool and disk"
         : has(load_tier::disk) || has(load_tier::paged) ? "disk"
         : has(load_tier::pool)                          ? "pool"
         : has(load_tier::cached)                        ? "page cache"
         : has(load_tier::device)                        ? "device"
                                                         : "unknown";
}

void foresight::load_began(const model_id& model, instant now) { loads_[model] = {now, {}}; }

bool foresight::load_expected(const load_account& account) {
  const auto at = loads_.find(account.model);
  if (at == loads_.end())
    return false;
  at->second.expected = account;
  return true;
}

void foresight::learn_prefill(const model_id& model, double weight_bytes,
                              policies::prompt_work work, double took) {
  prefill_.learn(model, weight_bytes, work, took);
}

void foresight::learn_service(const model_id& model, duration took) {
  services_[model].learn(seconds(took));
}

std::optional<request_forecast> foresight::of(const awaited_request& request,
                                              const policies::model_view& model,
                                              instant now) const {
  request_forecast out;
  const auto elapsed = seconds(now - request.accepted);
  const bool is_there = model.best != nullptr && model.best->state == policies::residence::ready;
  // A model that has just been loaded has computed nothing yet.
  out.prefill =
      prefill_.seconds(request.model, request.weight_bytes,
                       is_there && model.best->used
                           ? prefill_.likely_work(request.model, request.prompt_tokens)
                           : policies::prompt_work{request.prompt_tokens, request.prompt_tokens});
  if (is_there) {
    out.state = "resident";
    const auto at = services_.find(request.model);
    out.queue = elapsed + policies::place_wait(request.ahead, model.best->places(),
                                               model.best->assigned.size(),
                                               at == services_.end() ? 0 : at->second.seconds());
  } else {
    const auto at = loads_.find(request.model);
    if (at == loads_.end() || !at->second.expected)
      return std::nullopt;
    const auto& load = *at->second.expected;
    const auto& [began, expected] = at->second;
    // A load that others began has done some of its work by now.
    const auto before = std::max(0.0, seconds(request.accepted - began));
    out.state = before > 0 ? "loading" : state_of(load.bytes);
    out.bytes = load.bytes;
    out.queue = std::max(0.0, seconds(began - request.accepted)) +
                std::max(0.0, load.seconds.queued - before);
    const auto gone = std::max(0.0, before - load.seconds.queued);
    out.load = std::max(0.0, load.seconds.total - load.seconds.queued - gone);
    out.prefill =
        policies::prefill_left(load.seconds, out.prefill, usual_layers, early_seconds(load));
  }
  out.first_token = std::max(elapsed, out.queue + out.load + out.prefill);
  return out;
}

} // namespace troupe::actors
