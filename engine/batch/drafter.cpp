#include "engine/batch/drafter.hpp"

#include <algorithm>

#include "engine/batch/guesser.hpp"

namespace troupe::engine {

namespace {

constexpr size_t ending_min = 2, ending_max = 8;

constexpr float margin = 0.05f;
constexpr float newest_part = 0.25f;
constexpr uint32_t length_limit = 64, pause_min = 8, pause_max = 512;

} // namespace

void look_up_draft(std::span<const token_id> tokens, size_t count, std::vector<token_id>& out) {
  out.clear();
  const auto size = tokens.size();
  if (size <= ending_min || count == 0)
    return;
  const token_id last = tokens[size - 1], before = tokens[size - 2];
  size_t best = 0, found = 0;
  // `end` is one behind an earlier occurrence.
  for (size_t end = size - 1; end >= ending_min && best < ending_max; --end) {
    if (tokens[end - 1] != last || tokens[end - 2] != before)
      continue;
    size_t same = ending_min;
    while (same < ending_max && same < end && tokens[end - 1 - same] == tokens[size - 1 - same])
      ++same;
    if (same > best) {
      best = same;
      found = end;
    }
  }
  if (best == 0)
    return;
  // What follows may run into the ending itself: a text that repeats goes on repeating.
  const auto period = size - found;
  for (size_t i = 0; i < count; ++i)
    out.push_back(tokens[found + i % period]);
}

void lookup_guesser::guess(std::span<const guess_wish> wishes) {
  for (const auto& wish : wishes)
    look_up_draft(wish.of->tokens, wish.most, *wish.out);
}

float break_even_share(size_t sequences, double free_rows, double pass) {
  const auto rows = static_cast<double>(sequences);
  return std::min(1.0f, static_cast<float>(rows / (rows + free_rows) + pass) + margin);
}

uint32_t draft_rows_max(size_t sequences, double free_rows) {
  return static_cast<uint32_t>(sequences) + static_cast<uint32_t>(free_rows);
}

uint32_t draft_pace::next(float worth) {
  if (pause_ == 0 && share_ >= worth)
    return length_;
  if (pause_ == 0) {
    pause_ = pause_next_;
    pause_next_ = std::min(2 * pause_next_, pause_max);
    share_ = 1; // another try follows, and one wrong guess after it is enough
    length_ = 1;
  }
  --pause_;
  return 0;
}

void draft_pace::learn(uint32_t drafted, uint32_t right) {
  const auto share = static_cast<float>(right) / static_cast<float>(drafted);
  // The try after a pause speaks for itself.
  share_ = share_ == 1 ? share : share_ + newest_part * (share - share_);
  if (right == drafted) {
    length_ = std::min(std::max(length_, 2 * drafted), length_limit);
    pause_next_ = pause_min;
  } else {
    length_ = right + 1;
  }
}

} // namespace troupe::engine
