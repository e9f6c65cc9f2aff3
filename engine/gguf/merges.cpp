#include "engine/gguf/merges.hpp"

#include <algorithm>
#include <tuple>
#include <unordered_map>

#include "engine/tokenizer/utf8.hpp"

namespace troupe::engine {

namespace {

/// No real piece is longer, and each is cut at every character.
constexpr size_t piece_bytes_max = 1024;

struct candidate {
  double score;
  uint32_t left_size, right_size; // in characters
  uint32_t left_id, right_id;
};

} // namespace

std::vector<std::pair<std::string_view, std::string_view>>
merges_of_scores(std::span<const std::string_view> pieces, std::span<const double> scores) {
  std::unordered_map<std::string_view, uint32_t> ids;
  ids.reserve(pieces.size());
  for (uint32_t id = 0; id < pieces.size(); ++id)
    if (!pieces[id].empty())
      ids[pieces[id]] = id;
  std::vector<candidate> found;
  for (uint32_t id = 0; id < pieces.size(); ++id) {
    const auto whole = pieces[id];
    if (whole.size() > piece_bytes_max)
      continue;
    const auto first = found.size();
    uint32_t left_size = 0;
    for (size_t at = 0; at < whole.size();) {
      at = std::min(at + utf8::length(whole[at]), whole.size());
      ++left_size;
      const auto left = ids.find(whole.substr(0, at)), right = ids.find(whole.substr(at));
      if (at < whole.size() && left != ids.end() && right != ids.end())
        found.push_back({scores[id], left_size, 0, left->second, right->second});
    }
    for (auto i = first; i < found.size(); ++i)
      found[i].right_size = left_size - found[i].left_size; // now the size of the whole is known
    std::sort(found.begin() + static_cast<ptrdiff_t>(first), found.end(),
              [](const auto& a, const auto& b) {
                return std::tie(a.left_id, a.right_id) < std::tie(b.left_id, b.right_id);
              });
  }
  std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) {
    return std::tie(a.score, a.left_size, a.right_size) >
           std::tie(b.score, b.left_size, b.right_size);
  });
  std::vector<std::pair<std::string_view, std::string_view>> out;
  out.reserve(found.size());
  for (const auto& one : found)
    out.emplace_back(pieces[one.left_id], pieces[one.right_id]);
  return out;
}

} // namespace troupe::engine
