#pragma once
#include <optional>
#include <string_view>
#include <vector>

#include "engine/tokenizer/pre_tokenizer.hpp"

namespace troupe::engine {

/// A stretch of text and whether the pattern matched it.
struct span_match {
  size_t begin = 0;
  size_t end = 0;
  bool matched = false;
};

/// What becomes of the delimiter, as in the `tokenizers` package.
enum class split_behavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };
std::optional<split_behavior> parse_behavior(std::string_view name);

/// Applies `behavior` to `spans`, which cover `whole.text`, and appends the parts to `out`.
void emit_spans(piece whole, std::vector<span_match> spans, split_behavior behavior,
                std::vector<piece>& out);

} // namespace troupe::engine
