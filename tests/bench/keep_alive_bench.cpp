#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "policies/arrivals.hpp"
#include "policies/eviction.hpp"

/// Replays two days of requests against a worker under a memory limit, with a host pool behind it,
/// and prints what each policy of keeping models would have cost on the second day. Not a
/// stopwatch: the same numbers on every machine.
///
///   keep_alive_bench [SEED]
///
/// The trace has the shape that published serverless traces have: popularity by Zipf's law (of 80
/// models the least asked for half gets a few percent of the requests), and bursts: pauses between
/// the requests of a model are gamma distributed with a coefficient of variation of 4 or 8, the
/// latter being what HydraServe (arXiv 2502.15524) replays. Every fifth model is asked for by a
/// clock instead, every so many minutes.
namespace {

using namespace troupe;
using namespace troupe::policies;
using cold_cost = std::function<double(size_t model, double now)>;

constexpr double gigabyte = 1e9, day = 86400, span = 2 * day;
constexpr double device_rate = 25 * gigabyte; ///< from the pool

struct model {
  model_id id;
  double bytes = 0, origin_rate = 0;
  double cold_seconds() const { return bytes / origin_rate; }
  double warm_seconds() const { return bytes / device_rate; }
};
struct request {
  double at = 0;
  size_t model = 0;
};

std::vector<model> make_models(size_t count, std::mt19937_64& random) {
  const double sizes[] = {1, 2.5, 3, 6, 8, 16, 16, 29.5};
  std::vector<model> out;
  for (size_t i = 0; i < count; ++i)
    out.push_back({{std::to_string(i)},
                   sizes[random() % std::size(sizes)] * gigabyte,
                   (random() % 5 == 0 ? 1.25 : 3.5) * gigabyte});
  return out;
}

std::vector<request> make_trace(size_t models, double per_second, double variation,
                                std::mt19937_64& random) {
  double all = 0;
  for (size_t i = 0; i < models; ++i)
    all += 1 / static_cast<double>(i + 1);
  std::vector<request> out;
  for (size_t i = 0; i < models; ++i) {
    const auto rate = per_second / static_cast<double>(i + 1) / all;
    const auto shape = 1 / (variation * variation);
    std::gamma_distribution<double> pause{shape, 1 / rate / shape};
    const double every = 60.0 * static_cast<double>(5 + random() % 55);
    for (double at = std::uniform_real_distribution{0.0, every}(random); at < span;
         at +=
         i % 5 == 4 ? every * std::uniform_real_distribution{0.97, 1.03}(random) : pause(random))
      out.push_back({at, i});
  }
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.at < b.at; });
  return out;
}

instant time_at(double seconds) {
  return instant{} + std::chrono::duration_cast<duration>(std::chrono::duration<double>{seconds});
}

struct policy {
  std::string name;
  double keep_seconds = 0; ///< fixed; negative = until there is no room
  double price = 0;        ///< seconds of waiting for a GB held a second; 0 = fixed
  bool by_worth = false;   ///< who makes room: what is worth least, else what was used longest ago
  bool prefetches = false;
};
struct outcome {
  size_t requests = 0, cold = 0;
  double waited = 0, held = 0, pool_hits = 0, prefetched = 0;
};

/// One worker and one pool; models are whole in either.
class replayed_node {
public:
  replayed_node(const std::vector<model>& models, const policy& how, double memory, double pool)
      : models_{models}, how_{how}, memory_{memory}, pool_{pool}, places_(models.size()) {}

  outcome run(const std::vector<request>& trace) {
    double next_look = 0;
    for (const auto& x : trace) {
      for (; next_look < x.at; next_look += 60)
        look_around(next_look);
      serve(x);
    }
    return out_;
  }

private:
  struct place {
    bool loaded = false, pooled = false;
    double used = -1, until = 0, heat = 0, since = 0;
  };

  double worth(size_t i, double now) const {
    const auto& x = models_[i];
    if (!how_.by_worth)
      return places_[i].used;
    const auto reload = places_[i].pooled ? x.warm_seconds() : x.cold_seconds();
    return seen_.rate(x.id, time_at(now)) * reload / x.bytes;
  }
  double pool_worth(size_t i, double now) const {
    const auto& x = places_[i];
    if (how_.prefetches)
      return seen_.rate(models_[i].id, time_at(now)) * models_[i].cold_seconds() / models_[i].bytes;
    return reuse_worth({1 / models_[i].origin_rate, x.heat, now - x.used});
  }
  /// Frees room for `bytes` by the least worth; with `than`, only what is worth less than that.
  bool make_room(double bytes, double size, bool place::*where, double now,
                 double (replayed_node::*rank)(size_t, double) const, double than = INFINITY) {
    std::vector<size_t> held;
    double used = 0;
    for (size_t i = 0; i < places_.size(); ++i)
      if (places_[i].*where)
        held.push_back(i), used += models_[i].bytes;
    std::sort(held.begin(), held.end(),
              [&](size_t a, size_t b) { return (this->*rank)(a, now) < (this->*rank)(b, now); });
    size_t gone = 0;
    while (used + bytes > size && gone < held.size() && (this->*rank)(held[gone], now) < than)
      used -= models_[held[gone++]].bytes;
    if (used + bytes > size)
      return false;
    for (size_t i = 0; i < gone; ++i)
      leave(held[i], where, now);
    return true;
  }
  void leave(size_t i, bool place::*where, double now) {
    auto& x = places_[i];
    if (where == &place::loaded)
      count_held(i, x.since, now);
    x.*where = false;
  }
  void count_held(size_t i, double from, double to) {
    out_.held += models_[i].bytes / gigabyte * std::max(0.0, to - std::max(from, day));
  }
  void expire(double now) {
    for (size_t i = 0; i < places_.size(); ++i)
      if (places_[i].loaded && places_[i].until < now)
        leave(i, &place::loaded, places_[i].until);
  }
  void serve(const request& r) {
    expire(r.at);
    auto& x = places_[r.model];
    const auto& m = models_[r.model];
    const bool counts = r.at >= day;
    out_.requests += counts;
    if (!x.loaded) {
      const auto wait = x.pooled ? m.warm_seconds() : m.cold_seconds();
      if (counts)
        ++out_.cold, out_.waited += wait, out_.pool_hits += x.pooled;
      make_room(m.bytes, memory_, &place::loaded, r.at, &replayed_node::worth);
      x.loaded = true;
      x.since = r.at;
    }
    seen_.note(m.id, time_at(r.at));
    x.heat = x.used < 0 ? 1 : warmed(x.heat, r.at - x.used);
    x.used = r.at;
    const auto reload = x.pooled ? m.warm_seconds() : m.cold_seconds();
    const auto keep = how_.price > 0
                          ? std::chrono::duration<double>(
                                seen_.worth_keeping(m.id, reload, how_.price * m.bytes / gigabyte))
                                .count()
                      : how_.keep_seconds < 0 ? span
                                              : how_.keep_seconds;
    x.until = r.at + keep;
    if (!x.pooled)
      x.pooled = make_room(m.bytes, pool_, &place::pooled, r.at, &replayed_node::pool_worth);
  }
  /// What is likely to be asked for soon goes into the pool, where what is there is worth less than
  /// half as much.
  void look_around(double now) {
    if (!how_.prefetches)
      return;
    for (size_t i = 0; i < places_.size(); ++i) {
      if (places_[i].pooled || places_[i].loaded || places_[i].used < 0 ||
          seen_.use_within(models_[i].id, time_at(now), std::chrono::minutes{5}) < 0.1)
        continue;
      if (!make_room(models_[i].bytes, pool_, &place::pooled, now, &replayed_node::pool_worth,
                     0.5 * pool_worth(i, now)))
        continue;
      places_[i].pooled = true;
      if (now >= day)
        out_.prefetched += models_[i].bytes / gigabyte;
    }
  }

  const std::vector<model>& models_;
  const policy how_;
  const double memory_, pool_;
  std::vector<place> places_;
  arrivals seen_;
  outcome out_;
};

} // namespace

int main(int argc, char** argv) {
  const uint64_t seed = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1;
  const policy policies[] = {
      {"keep 1 min", 60},
      {"keep 5 min", 300},
      {"keep 30 min", 1800},
      {"recency, as long as there is room", -1},
      {"worth, as long as there is room", -1, 0, true},
      {"auto", 0, 1 / 3600.0, true},
      {"auto, prefetching", 0, 1 / 3600.0, true, true},
      {"worth and prefetching, as long as there is room", -1, 0, true, true}};
  std::printf(
      "| variation | pool GB | policy | requests | loads | of them from the pool | waited s "
      "| GB h held | prefetched GB |\n"
      "| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
  for (const double variation : {4.0, 8.0})
    for (const double pool : {64.0, 192.0}) {
      std::mt19937_64 random{seed};
      const auto models = make_models(80, random);
      const auto trace = make_trace(models.size(), 0.6, variation, random);
      for (const auto& how : policies) {
        const auto x = replayed_node{models, how, 80 * gigabyte, pool * gigabyte}.run(trace);
        std::printf("| %.0f | %.0f | %s | %zu | %zu | %.0f | %.0f | %.0f | %.0f |\n", variation,
                    pool, how.name.c_str(), x.requests, x.cold, x.pool_hits, x.waited,
                    x.held / 3600, x.prefetched);
      }
    }
}
