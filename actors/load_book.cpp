#include "actors/load_book.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

#include "actors/peer_plane.hpp"
#include "storage/store/pull.hpp"

namespace troupe::actors {

namespace {

double seconds(duration x) { return std::chrono::duration<double>(x).count(); }

double bytes_of(const load_account& x, policies::load_tier tier) {
  return x.bytes[static_cast<size_t>(tier)];
}

} // namespace

policies::load_demand demand_of(const load_account& x) {
  policies::load_demand out;
  out.wanted = x.bytes;
  out.queue_seconds = x.seconds.queued;
  // What is fetched lies in another tier as well when it is read; what another device has made of
  // weights is only copied.
  out.bind_bytes = std::accumulate(x.bytes.begin() + 1, x.bytes.end(),
                                   -bytes_of(x, policies::load_tier::device));
  out.source = x.source;
  out.binding = x.model.text;
  return out;
}

std::string link_of(const std::string& origin) {
  const auto where = storage::parse_origin(origin);
  return where ? storage::joined(*where, " and ", storage::link_name) : std::string{};
}

/// Seconds until its bytes are read, as far as was foreseen.
double load_book::pending::left(instant now) const {
  if (came != instant{})
    return 0;
  const auto& took = forecast.seconds;
  const auto read = forecast.source == peer_link ? took.bytes : took.read;
  return begun == instant{} ? read : std::max(0.0, read - seconds(now - begun));
}

load_book::pending* load_book::find(uint64_t worker, const model_id& model) {
  const auto at = std::find_if(pending_.begin(), pending_.end(), [&](const pending& x) {
    return x.worker == worker && x.model == model;
  });
  return at == pending_.end() ? nullptr : &*at;
}

void load_book::announce(uint64_t worker, const model_id& model, instant now) {
  const std::lock_guard guard{mutex_};
  if (find(worker, model) != nullptr)
    return;
  auto& x = pending_.emplace_back();
  x.worker = worker;
  x.model = x.real.model = model;
  x.announced = now;
}

void load_book::fetched(uint64_t worker, const model_id& model, std::string source, double bytes,
                        double took) {
  const std::lock_guard guard{mutex_};
  auto* x = find(worker, model);
  if (x == nullptr || bytes <= 0)
    return;
  x->real.source = std::move(source);
  x->real.bytes[0] = bytes;
  x->real.seconds.fetch = took;
}

void load_book::begin(uint64_t worker, const model_id& model, instant now) {
  const std::lock_guard guard{mutex_};
  if (auto* x = find(worker, model))
    x->begun = now;
}

std::optional<load_account> load_book::came(uint64_t worker, const model_id& model,
                                            const policies::tier_bytes& whence, instant now) {
  const std::lock_guard guard{mutex_};
  auto* x = find(worker, model);
  if (x == nullptr)
    return std::nullopt;
  const auto fetched = x->real.bytes[0];
  // What was fetched before has named its link; what comes from other nodes comes now.
  if (fetched <= 0 && whence[0] > 0)
    x->real.source = peer_link;
  x->real.bytes = whence;
  x->real.bytes[0] += fetched;
  x->came = now;
  return settle(*x);
}

std::optional<load_account> load_book::ready(uint64_t worker, const model_id& model,
                                             double bind_seconds, instant now) {
  const std::lock_guard guard{mutex_};
  auto* x = find(worker, model);
  if (x == nullptr)
    return std::nullopt;
  x->real.seconds.bind = bind_seconds;
  x->ready = now;
  return settle(*x);
}

/// Learns from a load that is over, and forgets it.
std::optional<load_account> load_book::settle(pending& x) {
  if (x.came == instant{} || x.ready == instant{} || x.begun == instant{})
    return std::nullopt;
  auto out = x.real;
  auto& took = out.seconds;
  const auto fetched = took.fetch; // before the rest began
  took.read = seconds(x.came - x.begun);
  took.bytes = took.fetch + took.read;
  if (out.source == peer_link) { // at the same time as what is read here, if anything is
    took.fetch = took.read;
    if (std::accumulate(out.bytes.begin() + 1, out.bytes.end(), 0.0) <= 0)
      took.read = 0;
  }
  // All that an engine does with weights of another device is to bring them.
  const bool copied = bytes_of(out, policies::load_tier::device) > 0;
  const bool mixed = copied && demand_of(out).bind_bytes > 0; // a draft model from elsewhere
  if (copied && !mixed)
    took.bytes = took.read = std::exchange(took.bind, 0);
  took.queued = std::max(0.0, seconds(x.begun - x.announced) - fetched);
  took.total = seconds(std::max(x.ready, x.came) - x.announced);
  if (!mixed) // whose time no tier can be charged with
    cost_.observe(demand_of(out), took);
  pending_.erase(pending_.begin() + (&x - pending_.data()));
  return out;
}

void load_book::drop(uint64_t worker, const model_id& model) {
  const std::lock_guard guard{mutex_};
  std::erase_if(pending_, [&](const pending& x) { return x.worker == worker && x.model == model; });
}

double load_book::coming_bytes(uint64_t worker, const model_id& model, instant now) const {
  using policies::load_tier;
  const std::lock_guard guard{mutex_};
  double out = 0;
  for (const auto& x : pending_) {
    if (x.worker == worker && x.model == model)
      break; // whatever was announced later comes later
    const auto read =
        bytes_of(x.forecast, load_tier::remote) + bytes_of(x.forecast, load_tier::disk);
    // Files of which all is cached are mapped, and need no pool.
    const bool pooled = read + bytes_of(x.forecast, load_tier::pool) > 0;
    const auto all = x.forecast.seconds.bytes;
    out += (read + (pooled ? bytes_of(x.forecast, load_tier::cached) : 0)) *
           (all > 0 ? std::min(1.0, x.left(now) / all) : 1);
  }
  return out;
}

load_account load_book::forecast(uint64_t worker, load_account wanted, instant now) {
  const std::lock_guard guard{mutex_};
  auto demand = demand_of(wanted);
  demand.queue_seconds = 0;
  pending* own = nullptr;
  for (auto& x : pending_) {
    if (x.worker == worker && x.model == wanted.model) {
      own = &x;
      break; // whatever was announced later comes later
    }
    if (x.worker == worker)
      demand.queue_seconds += x.left(now);
    else if (x.forecast.seconds.read > 0) // another device's load is at the same tiers
      for (size_t i = 0; i < policies::load_tier_count; ++i)
        demand.queued[i] += x.forecast.bytes[i] * x.left(now) / x.forecast.seconds.read;
  }
  wanted.seconds = cost_.predict(demand);
  if (own != nullptr)
    own->forecast = wanted;
  return wanted;
}

void load_book::probe(policies::load_tier tier, double bytes_per_second) {
  const std::lock_guard guard{mutex_};
  cost_.probe(tier, bytes_per_second);
}

double load_book::bytes_per_second(policies::load_tier tier) const {
  const std::lock_guard guard{mutex_};
  return cost_.bytes_per_second(tier);
}

} // namespace troupe::actors
