#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "policies/eviction.hpp"

/// Replays a day of requests against a host pool and prints what each policy of eviction would have
/// cost. Not a stopwatch: the same numbers on every machine.
///
///   eviction_bench [SEED]
///
/// The trace has the shape that published serverless traces have: popularity by Zipf's law, and
/// arrivals in bursts (a model is called several times within minutes, then not for long). Sizes
/// are those of common checkpoints; a fifth of the models comes from an object store at 1.25 GB/s,
/// the rest from a disk at 3.5 GB/s.
namespace {

using troupe::policies::cached_item;

constexpr double gigabyte = 1e9, chunk = 64e6, day = 86400;

struct model {
  size_t chunks = 0;
  double chunk_seconds = 0; ///< to load one chunk
};
struct request {
  double at = 0;
  size_t model = 0;
};

std::vector<model> make_models(size_t count, std::mt19937_64& random) {
  const double sizes[] = {1, 2.5, 3, 6, 8, 16, 16, 29.5};
  std::vector<model> out;
  for (size_t i = 0; i < count; ++i) {
    const auto bytes = sizes[random() % std::size(sizes)] * gigabyte;
    const auto rate = (random() % 5 == 0 ? 1.25 : 3.5) * gigabyte;
    out.push_back({static_cast<size_t>(bytes / chunk), chunk / rate});
  }
  return out;
}

std::vector<request> make_trace(size_t models, double zipf, std::mt19937_64& random) {
  std::vector<double> weights;
  for (size_t i = 0; i < models; ++i)
    weights.push_back(1 / std::pow(static_cast<double>(i + 1), zipf));
  std::discrete_distribution<size_t> pick{weights.begin(), weights.end()};
  std::exponential_distribution<double> until_burst{1 / 40.0}, within_burst{1 / 45.0};
  std::geometric_distribution<int> more{0.25};
  std::multimap<double, size_t> trace;
  for (double at = until_burst(random); at < day; at += until_burst(random)) {
    const auto who = pick(random);
    auto when = at;
    for (int left = more(random); left >= 0; --left, when += within_burst(random))
      trace.emplace(when, who);
  }
  std::vector<request> out;
  for (const auto& [at, who] : trace)
    out.push_back({at, who});
  return out;
}

struct held {
  size_t model = 0, order = 0;
  double used = 0, heat = 0;
};
struct cost {
  size_t hits = 0, wanted = 0;
  double seconds = 0;
};

/// The pool as the host pool is: chunks of one load count as used at its beginning, and of equals
/// the end of a model goes first.
template <class Worth>
cost replay(const std::vector<model>& models, const std::vector<request>& trace, size_t capacity,
            Worth worth) {
  cost out;
  std::vector<std::vector<bool>> present;
  for (const auto& x : models)
    present.emplace_back(x.chunks, false);
  std::vector<held> pool;
  for (const auto& [at, who] : trace) {
    for (auto& x : pool)
      if (x.model == who) {
        x.heat = troupe::policies::warmed(x.heat, at - x.used);
        x.used = at;
      }
    size_t missing = 0;
    for (size_t i = 0; i < models[who].chunks; ++i) {
      ++out.wanted;
      if (present[who][i]) {
        ++out.hits;
        continue;
      }
      ++missing;
      out.seconds += models[who].chunk_seconds;
      present[who][i] = true;
      pool.push_back({who, i, at, troupe::policies::warmed(0, 0)});
    }
    if (pool.size() <= capacity)
      continue;
    std::vector<std::pair<double, size_t>> order;
    for (size_t i = 0; i < pool.size(); ++i)
      order.emplace_back(
          worth(cached_item{models[pool[i].model].chunk_seconds, pool[i].heat, at - pool[i].used}),
          i);
    std::sort(order.begin(), order.end(), [&](const auto& a, const auto& b) {
      return a.first != b.first ? a.first > b.first : pool[a.second].order < pool[b.second].order;
    });
    std::vector<held> kept;
    for (size_t i = 0; i < order.size(); ++i) {
      const auto& x = pool[order[i].second];
      if (i < capacity)
        kept.push_back(x);
      else
        present[x.model][x.order] = false;
    }
    pool = std::move(kept);
  }
  return out;
}

} // namespace

int main(int argc, char** argv) {
  const uint64_t seed = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1;
  std::printf("| models | zipf | pool GB | policy | chunk hits | reload s | of recency |\n"
              "| --- | --- | --- | --- | --- | --- | --- |\n");
  for (const double zipf : {0.8, 1.1})
    for (const double pool : {32.0, 128.0}) {
      std::mt19937_64 random{seed};
      const auto models = make_models(60, random);
      const auto trace = make_trace(models.size(), zipf, random);
      double baseline = 0;
      const auto print = [&](const std::string& name, const cost& x) {
        baseline = baseline == 0 ? x.seconds : baseline;
        std::printf("| 60 | %.1f | %.0f | %s | %.1f %% | %.0f | %.2f |\n", zipf, pool, name.c_str(),
                    100.0 * static_cast<double>(x.hits) / static_cast<double>(x.wanted), x.seconds,
                    x.seconds / baseline);
      };
      const auto capacity = static_cast<size_t>(pool * gigabyte / chunk);
      print("recency", replay(models, trace, capacity, troupe::policies::recency_worth));
      print("reuse", replay(models, trace, capacity, troupe::policies::reuse_worth));
    }
}
