#pragma once
#include <span>
#include <string_view>
#include <vector>

#include "engine/tokenizer/tokenizer.hpp"

namespace troupe::engine {

/// The merges of a SentencePiece vocabulary, which has scores instead: every way to join two pieces
/// into a third, best score first. `pieces` by id; those with an empty text take no part. `scores`
/// has one for each. Equal scores are ordered as Hugging Face's conversion orders them
/// (transformers, convert_slow_tokenizer).
std::vector<std::pair<std::string_view, std::string_view>>
merges_of_scores(std::span<const std::string_view> pieces, std::span<const double> scores);

} // namespace troupe::engine
