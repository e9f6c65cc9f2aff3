#include "engine/tokenizer/split_behavior.hpp"

#include <algorithm>

namespace troupe::engine {

namespace {

/// Neighbours of the same kind become one.
void join_runs(std::vector<span_match>& spans) {
  std::vector<span_match> out;
  for (const auto& span : spans) {
    if (!out.empty() && out.back().matched == span.matched)
      out.back().end = span.end;
    else
      out.push_back(span);
  }
  spans = std::move(out);
}

void merge_with_previous(std::vector<span_match>& spans) {
  std::vector<span_match> out;
  bool previous = false;
  for (const auto& span : spans) {
    if (span.matched && !previous && !out.empty())
      out.back().end = span.end;
    else
      out.push_back(span);
    previous = span.matched;
  }
  spans = std::move(out);
}

void merge_with_next(std::vector<span_match>& spans) {
  std::vector<span_match> out;
  bool previous = false;
  for (auto span = spans.rbegin(); span != spans.rend(); ++span) {
    if (span->matched && !previous && !out.empty())
      out.back().begin = span->begin;
    else
      out.push_back(*span);
    previous = span->matched;
  }
  std::reverse(out.begin(), out.end());
  spans = std::move(out);
}

} // namespace

std::optional<split_behavior> parse_behavior(std::string_view name) {
  if (name == "Removed")
    return split_behavior::removed;
  if (name == "Isolated")
    return split_behavior::isolated;
  if (name == "MergedWithPrevious")
    return split_behavior::merged_with_previous;
  if (name == "MergedWithNext")
    return split_behavior::merged_with_next;
  if (name == "Contiguous")
    return split_behavior::contiguous;
  return std::nullopt;
}

void emit_spans(piece whole, std::vector<span_match> spans, split_behavior behavior,
                std::vector<piece>& out) {
  if (behavior == split_behavior::contiguous)
    join_runs(spans);
  else if (behavior == split_behavior::merged_with_previous)
    merge_with_previous(spans);
  else if (behavior == split_behavior::merged_with_next)
    merge_with_next(spans);
  for (const auto& span : spans) {
    if (span.begin == span.end || (span.matched && behavior == split_behavior::removed))
      continue;
    out.push_back(
        {whole.text.substr(span.begin, span.end - span.begin), whole.at_start && span.begin == 0});
  }
}

} // namespace troupe::engine
