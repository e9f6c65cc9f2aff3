#include "engine/sampler/selection.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>

#include "gpu/choice_math.hpp"

namespace troupe::engine {

namespace {

using gpu::mass_of;

bool heavier(const weighted_token& a, const weighted_token& b) {
  return a.weight != b.weight ? a.weight > b.weight : a.token < b.token;
}

/// Weights sorted into bins by their leading bits (sign, exponent, four of the mantissa): bits of
/// positive floats order as the floats do, and no weight is above 1.
class bins {
public:
  static constexpr size_t count = (0x3f800000u >> 19) + 1;
  static size_t of(float weight) { return std::bit_cast<uint32_t>(weight) >> 19; }

  /// Counts what is at least `floor`.
  bins(std::span<const float> weights, float floor) {
    for (const float weight : weights) {
      if (weight < floor)
        continue;
      auto& bin = bins_[of(weight)];
      bin.mass += mass_of(weight);
      ++bin.tokens;
    }
  }
  /// The highest bin with which at least `tokens` tokens, or at least `mass`, are reached.
  size_t reaching(size_t tokens, uint64_t mass) const {
    size_t seen = 0;
    uint64_t sum = 0;
    for (size_t i = count; i-- > 0;) {
      seen += bins_[i].tokens;
      sum += bins_[i].mass;
      if (seen >= tokens || sum >= mass)
        return i;
    }
    return 0;
  }

private:
  struct bin {
    uint64_t mass = 0;
    uint32_t tokens = 0;
  };
  std::array<bin, count> bins_{};
};

constexpr float smallest = 1e-37f; // `exponentials` gives no smaller weight but 0
constexpr uint64_t no_mass = UINT64_MAX;

/// Tokens of the bins above `at` go to `out`, those of the bin itself to `edge`, heaviest first.
void split_at(std::span<const float> weights, size_t at, std::vector<weighted_token>& out,
              std::vector<weighted_token>& edge) {
  out.clear();
  edge.clear();
  out.reserve(weights.size()); // once: sampling must not allocate with every token
  edge.reserve(weights.size());
  const float floor = std::bit_cast<float>(static_cast<uint32_t>(at << 19));
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] < floor || weights[i] == 0.0f)
      continue;
    const weighted_token one{weights[i], static_cast<token_id>(i)};
    (bins::of(weights[i]) == at ? edge : out).push_back(one);
  }
  std::sort(edge.begin(), edge.end(), heavier);
}

/// Merges `more` into `out`, both by token id, from the end and in place.
void merge_by_token(const std::vector<weighted_token>& more, std::vector<weighted_token>& out) {
  auto left = out.size(), right = more.size();
  out.resize(left + right);
  while (right > 0) {
    const bool from_left = left > 0 && out[left - 1].token > more[right - 1].token;
    out[left + right - 1] = from_left ? out[left - 1] : more[right - 1];
    --(from_left ? left : right);
  }
}

} // namespace

float highest_of(std::span<const float> logits) {
  constexpr size_t lanes = 16;
  constexpr float lowest = -std::numeric_limits<float>::infinity();
  std::array<float, lanes> best;
  best.fill(lowest);
  std::array<uint32_t, lanes> broken{};
  const auto look = [&](float logit, size_t lane) {
    best[lane] = logit > best[lane] ? logit : best[lane];
    broken[lane] |= logit != logit;
  };
  size_t i = 0;
  for (; i + lanes <= logits.size(); i += lanes)
    for (size_t j = 0; j < lanes; ++j)
      look(logits[i + j], j);
  for (; i < logits.size(); ++i)
    look(logits[i], 0);
  return std::ranges::any_of(broken, [](uint32_t x) { return x != 0; })
             ? std::numeric_limits<float>::quiet_NaN()
             : *std::ranges::max_element(best);
}

uint64_t mass_of_all(std::span<const float> weights) {
  // Eight sums side by side make vector code.
  std::array<uint64_t, 8> sums{};
  size_t i = 0;
  for (; i + sums.size() <= weights.size(); i += sums.size())
    for (size_t j = 0; j < sums.size(); ++j)
      sums[j] += mass_of(weights[i + j]);
  uint64_t out = 0;
  for (const auto one : sums)
    out += one;
  for (; i < weights.size(); ++i)
    out += mass_of(weights[i]);
  return out;
}

uint64_t exponentials(std::span<const float> logits, float highest, float temperature,
                      std::vector<float>& weights) {
  weights.resize(logits.size());
  const float* from = logits.data();
  float* to = weights.data();
  for (size_t i = 0; i < logits.size(); ++i)
    to[i] = gpu::weight_of(from[i], highest, temperature);
  return mass_of_all(weights);
}

void heaviest(std::span<const float> weights, size_t count, std::vector<weighted_token>& out,
              std::vector<weighted_token>& scratch) {
  const bins counted{weights, smallest};
  split_at(weights, counted.reaching(count, no_mass), out, scratch);
  // The bins above the edge hold fewer than `count`.
  std::sort(out.begin(), out.end(), heavier);
  const auto rest = std::min(count - out.size(), scratch.size());
  out.insert(out.end(), scratch.begin(), scratch.begin() + static_cast<ptrdiff_t>(rest));
}

void nucleus(std::span<const float> weights, uint64_t total, float share,
             std::vector<weighted_token>& out, std::vector<weighted_token>& scratch) {
  const auto wanted = gpu::mass_wanted(share, total);
  // All of them, though small ones cannot matter: a branch to leave those out is mispredicted for
  // every second token of a flat distribution, which costs more than to count them.
  const bins counted{weights, smallest};
  split_at(weights, counted.reaching(weights.size() + 1, wanted), out, scratch);
  uint64_t sum = 0;
  for (const auto& one : out)
    sum += mass_of(one.weight);
  size_t taken = 0;
  while (taken < scratch.size() && sum < wanted)
    sum += mass_of(scratch[taken++].weight);
  scratch.resize(taken);
  std::sort(scratch.begin(), scratch.end(),
            [](const auto& a, const auto& b) { return a.token < b.token; });
  merge_by_token(scratch, out);
}

std::vector<token_id> highest_tokens(std::span<const float> logits, size_t count) {
  const auto higher = [&](token_id a, token_id b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  };
  std::vector<token_id> out;
  out.reserve(count + 1);
  for (size_t i = 0; i < logits.size() && count > 0; ++i) {
    const auto token = static_cast<token_id>(i);
    if (out.size() == count && !higher(token, out.back()))
      continue;
    out.insert(std::upper_bound(out.begin(), out.end(), token, higher), token);
    if (out.size() > count)
      out.pop_back();
  }
  return out;
}

} // namespace troupe::engine
