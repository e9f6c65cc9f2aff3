#include "engine/tokenizer/vocabulary.hpp"

#include <algorithm>
#include <bit>
#include <functional>

#include "engine/tokenizer/utf8.hpp"

namespace troupe::engine {

namespace {

uint32_t hash_of(std::string_view text) {
  return static_cast<uint32_t>(std::hash<std::string_view>{}(text));
}

} // namespace

caf::expected<vocabulary> vocabulary::make(simdjson::dom::object tokens,
                                           const std::string& origin) {
  int64_t highest = -1;
  size_t count = 0, bytes = 0;
  for (const auto [text, value] : tokens) {
    int64_t id = -1;
    if (value.get(id) || id < 0 || id > token_id_max)
      return json_fields::malformed(origin, "the id of token '" + std::string{text} +
                                                "' is not a number from 0 to " +
                                                std::to_string(token_id_max));
    highest = std::max(highest, id);
    bytes += text.size();
    ++count;
  }
  vocabulary out;
  out.text_.reserve(bytes);
  out.places_.resize(static_cast<size_t>(highest + 1));
  out.slots_.resize(std::bit_ceil(count * 2 + 2));
  std::vector<bool> taken(out.places_.size());
  for (const auto [text, value] : tokens) {
    const auto id = static_cast<size_t>(value.get_int64().value());
    if (taken[id])
      return json_fields::malformed(origin, "two tokens have the id " + std::to_string(id) +
                                                ", the second is '" + std::string{text} + "'");
    taken[id] = true;
    out.insert(text, static_cast<token_id>(id));
  }
  return out;
}

caf::expected<vocabulary> vocabulary::make(std::span<const std::string_view> tokens,
                                           const std::string& origin) {
  if (tokens.size() > static_cast<size_t>(token_id_max) + 1)
    return json_fields::malformed(origin, "holds " + std::to_string(tokens.size()) +
                                              " tokens, more than any vocabulary has");
  uint64_t bytes = 0;
  for (size_t id = 0; id < tokens.size(); ++id) {
    bytes += tokens[id].size();
    if (!utf8::valid(tokens[id]))
      return json_fields::malformed(origin,
                                    "the text of token " + std::to_string(id) + " is not UTF-8");
  }
  if (bytes > UINT32_MAX)
    return json_fields::malformed(origin, "holds tokens of more than 4 GiB");
  vocabulary out;
  out.text_.reserve(bytes);
  out.places_.resize(tokens.size());
  out.slots_.resize(std::bit_ceil(tokens.size() * 2 + 2));
  for (size_t id = 0; id < tokens.size(); ++id)
    if (!tokens[id].empty())
      out.insert(tokens[id], static_cast<token_id>(id));
  return out;
}

void vocabulary::insert(std::string_view text, token_id id) {
  places_[static_cast<size_t>(id)] = {static_cast<uint32_t>(text_.size()),
                                      static_cast<uint32_t>(text.size())};
  text_ += text;
  const auto hash = hash_of(text);
  slots_[probe(text, hash)] = {hash, id};
}

size_t vocabulary::probe(std::string_view text, uint32_t hash) const {
  const size_t mask = slots_.size() - 1;
  size_t at = hash & mask;
  while (slots_[at].id >= 0 && (slots_[at].hash != hash || token(slots_[at].id) != text))
    at = (at + 1) & mask;
  return at;
}

std::optional<token_id> vocabulary::id_of(std::string_view text) const {
  const auto id = slots_[probe(text, hash_of(text))].id;
  return id < 0 ? std::nullopt : std::optional{id};
}

std::string_view vocabulary::token(token_id id) const {
  if (id < 0 || static_cast<size_t>(id) >= places_.size())
    return {};
  const auto& where = places_[static_cast<size_t>(id)];
  return std::string_view{text_}.substr(where.begin, where.size);
}

} // namespace troupe::engine
