#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/tokenizer/json_fields.hpp"

namespace troupe::engine {

using token_id = int32_t;

/// Above any vocabulary in use (the largest public one has 0.9 million tokens); keeps a hostile id
/// from allocating gigabytes here and wherever a table has a row per token.
constexpr int64_t token_id_max = (1 << 21) - 1;

/// The model's tokens, by id and by text. All texts lie in one buffer and the table of texts holds
/// ids only: loading is on the path of a cold start, and an allocation per token would double it.
class vocabulary {
public:
  /// `tokens` is {text: id}; ids may leave gaps but not repeat.
  static caf::expected<vocabulary> make(simdjson::dom::object tokens, const std::string& origin);
  /// `tokens` by id; an empty text leaves a gap. Of equal texts the last is the one that is found.
  static caf::expected<vocabulary> make(std::span<const std::string_view> tokens,
                                        const std::string& origin);

  std::optional<token_id> id_of(std::string_view text) const;
  /// Empty for ids that no token has.
  std::string_view token(token_id id) const;
  size_t size() const { return places_.size(); } ///< highest id + 1

private:
  struct place {
    uint32_t begin = 0, size = 0;
  };
  struct slot {
    uint32_t hash = 0;
    token_id id = -1;
  };
  void insert(std::string_view text, token_id id);
  /// The slot of `text`, or the empty one where it belongs.
  size_t probe(std::string_view text, uint32_t hash) const;

  std::string text_;
  std::vector<place> places_;
  std::vector<slot> slots_; // a power of two, at most half full
};

} // namespace troupe::engine
