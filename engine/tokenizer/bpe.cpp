#include "engine/tokenizer/bpe.hpp"

#include <queue>

#include "engine/tokenizer/byte_alphabet.hpp"
#include "engine/tokenizer/utf8.hpp"

namespace troupe::engine {

namespace {

/// Below this length a scan for the lowest rank beats a heap.
constexpr size_t short_word_symbols = 24;

std::string fallback_name(unsigned byte) {
  constexpr std::string_view digits = "0123456789ABCDEF";
  return std::string{"<0x"} + digits[byte >> 4] + digits[byte & 15] + ">";
}

/// "a b" or ["a", "b"].
bool split_merge(json_fields::element entry, std::string_view& left, std::string_view& right) {
  std::string_view joined;
  if (!entry.get(joined)) {
    const auto space = joined.find(' ');
    if (space == std::string_view::npos || joined.find(' ', space + 1) != std::string_view::npos)
      return false;
    left = joined.substr(0, space);
    right = joined.substr(space + 1);
    return true;
  }
  simdjson::dom::array pair;
  return !entry.get(pair) && pair.size() == 2 && !pair.at(0).get(left) && !pair.at(1).get(right);
}

} // namespace

caf::expected<bpe> bpe::make(json_fields::element model, bool byte_level,
                             const std::string& origin) {
  simdjson::dom::object texts;
  const auto vocabulary_field = json_fields::find(model, "vocab");
  if (!vocabulary_field || vocabulary_field->get(texts))
    return json_fields::malformed(origin, "the model has no object `vocab`");
  auto tokens = vocabulary::make(texts, origin);
  if (!tokens)
    return tokens.error();
  bpe out{std::move(*tokens)};
  if (auto why = out.read_options(model, byte_level, origin))
    return why;
  simdjson::dom::array merges;
  const auto merges_field = json_fields::find(model, "merges");
  if (!merges_field || merges_field->get(merges))
    return json_fields::malformed(origin, "the model has no list `merges`");
  if (auto why = out.read_merges(merges, origin))
    return why;
  return out;
}

caf::expected<bpe> bpe::make(json_fields::element model, bool byte_level, vocabulary tokens,
                             std::span<const token_pair> merges, const std::string& origin) {
  bpe out{std::move(tokens)};
  if (auto why = out.read_options(model, byte_level, origin))
    return why;
  out.merges_ = merge_table(merges.size());
  uint32_t rank = 0;
  for (const auto& [left, right] : merges)
    out.add_merge(left, right, rank++);
  return out;
}

caf::error bpe::read_options(json_fields::element model, bool byte_level,
                             const std::string& origin) {
  byte_level_ = byte_level;
  prefix_ = json_fields::text(model, "continuing_subword_prefix");
  suffix_ = json_fields::text(model, "end_of_word_suffix");
  fuse_unknown_ = json_fields::flag(model, "fuse_unk", false);
  byte_fallback_ = json_fields::flag(model, "byte_fallback", false);
  ignore_merges_ = json_fields::flag(model, "ignore_merges", false);
  if (const auto unknown = json_fields::text(model, "unk_token"); !unknown.empty()) {
    unknown_ = tokens_.id_of(unknown);
    if (!unknown_)
      return json_fields::malformed(origin, "unk_token '" + unknown + "' is not in the vocabulary");
  }
  for (unsigned byte = 0; byte < 256; ++byte) {
    const auto letter = byte_alphabet::character(static_cast<unsigned char>(byte));
    byte_ids_[byte] = tokens_.id_of(letter).value_or(-1);
    fallback_ids_[byte] = tokens_.id_of(fallback_name(byte)).value_or(-1);
  }
  return {};
}

bool bpe::add_merge(std::string_view left, std::string_view right, uint32_t rank) {
  std::string joined{left};
  joined += right.starts_with(prefix_) ? right.substr(prefix_.size()) : right;
  const auto a = tokens_.id_of(left), b = tokens_.id_of(right), c = tokens_.id_of(joined);
  if (!a || !b || !c)
    return false;
  merges_.insert(*a, *b, rank, *c);
  return true;
}

caf::error bpe::read_merges(simdjson::dom::array merges, const std::string& origin) {
  merges_ = merge_table(merges.size());
  uint32_t rank = 0;
  for (const auto entry : merges) {
    std::string_view left, right;
    if (!split_merge(entry, left, right))
      return json_fields::malformed(origin, "merge " + std::to_string(rank) +
                                                " is neither \"a b\" nor [\"a\", \"b\"]");
    if (!add_merge(left, right, rank))
      return json_fields::malformed(origin, "merge " + std::to_string(rank) + " ('" +
                                                std::string{left} + "' and '" + std::string{right} +
                                                "') names a token that is not in the vocabulary");
    ++rank;
  }
  return {};
}

bool bpe::may_cut_before(std::string_view mark) const {
  if (!prefix_.empty() || !suffix_.empty() || ignore_merges_ || !tokens_.id_of(mark))
    return false;
  for (size_t id = 0; id < tokens_.size(); ++id) {
    const auto token = tokens_.token(static_cast<token_id>(id));
    size_t run = 0; // the marks that a token begins with
    while (token.substr(run).starts_with(mark))
      run += mark.size();
    if (run < token.size() && token.find(mark, run) != std::string_view::npos)
      return false;
  }
  return true;
}

bool bpe::add_fallback(std::string_view character, std::vector<symbol>& symbols) const {
  if (!byte_fallback_)
    return false;
  for (const char c : character)
    if (fallback_ids_[static_cast<unsigned char>(c)] < 0)
      return false;
  for (const char c : character)
    symbols.push_back({fallback_ids_[static_cast<unsigned char>(c)], 0, 0, false});
  return true;
}

void bpe::start_symbols(std::string_view word, std::vector<symbol>& symbols) const {
  bool unknown_pending = false;
  const auto flush = [&] {
    if (unknown_pending)
      symbols.push_back({*unknown_, 0, 0, false});
    unknown_pending = false;
  };
  std::string decorated;
  for (size_t at = 0; at < word.size();) {
    const size_t begin = at;
    at += utf8::length(word[at]);
    const auto character = word.substr(begin, at - begin);
    std::string_view name = character;
    if ((begin > 0 && !prefix_.empty()) || (at == word.size() && !suffix_.empty())) {
      decorated = begin > 0 ? prefix_ : std::string{};
      decorated += character;
      if (at == word.size())
        decorated += suffix_;
      name = decorated;
    }
    if (const auto id = tokens_.id_of(name)) {
      flush();
      symbols.push_back({*id, 0, 0, false});
    } else if (!add_fallback(name, symbols) && unknown_) {
      if (!fuse_unknown_)
        flush();
      unknown_pending = true;
    }
  }
  flush();
}

void bpe::start_bytes(std::string_view word, std::vector<symbol>& symbols) const {
  for (const char c : word) {
    const auto id = byte_ids_[static_cast<unsigned char>(c)];
    if (id < 0) { // a trained alphabet may lack bytes: the general rules decide
      symbols.clear();
      start_symbols(byte_alphabet::encode(word), symbols);
      return;
    }
    symbols.push_back({id, 0, 0, false});
  }
}

std::vector<bpe::symbol> bpe::symbols_of(std::string_view word) const {
  std::vector<symbol> symbols;
  symbols.reserve(word.size());
  if (byte_level_ && prefix_.empty() && suffix_.empty())
    start_bytes(word, symbols);
  else if (byte_level_)
    start_symbols(byte_alphabet::encode(word), symbols);
  else
    start_symbols(word, symbols);
  return symbols;
}

void bpe::spell(std::string_view word, std::vector<token_id>& out) const {
  for (const auto& one : symbols_of(word))
    out.push_back(one.id);
}

void bpe::encode(std::string_view word, std::vector<token_id>& out) const {
  if (ignore_merges_) {
    const auto whole =
        byte_level_ ? tokens_.id_of(byte_alphabet::encode(word)) : tokens_.id_of(word);
    if (whole) {
      out.push_back(*whole);
      return;
    }
  }
  auto symbols = symbols_of(word);
  if (symbols.size() <= short_word_symbols)
    merge_short(symbols);
  else
    merge_long(symbols);
  for (const auto& one : symbols)
    if (!one.gone)
      out.push_back(one.id);
}

void bpe::merge_short(std::vector<symbol>& symbols) const {
  for (;;) {
    const merge_table::entry* best = nullptr;
    size_t at = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto* found = merges_.find(symbols[i].id, symbols[i + 1].id);
      if (found && (!best || found->rank < best->rank)) {
        best = found;
        at = i;
      }
    }
    if (!best)
      return;
    symbols[at].id = best->merged;
    symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(at) + 1);
  }
}

void bpe::merge_long(std::vector<symbol>& symbols) const {
  struct candidate {
    uint32_t rank;
    int32_t at; // of the left symbol
    token_id merged;
    bool operator>(const candidate& other) const {
      return rank != other.rank ? rank > other.rank : at > other.at;
    }
  };
  std::vector<candidate> heap;
  const auto count = static_cast<int32_t>(symbols.size());
  for (int32_t i = 0; i < count; ++i) {
    symbols[i].previous = i - 1;
    symbols[i].next = i + 1 < count ? i + 1 : -1;
    if (i + 1 < count)
      if (const auto* found = merges_.find(symbols[i].id, symbols[i + 1].id))
        heap.push_back({found->rank, i, found->merged});
  }
  std::priority_queue queue{std::greater<candidate>{}, std::move(heap)};
  const auto consider = [&](int32_t left) {
    if (left < 0 || symbols[left].next < 0)
      return;
    if (const auto* found = merges_.find(symbols[left].id, symbols[symbols[left].next].id))
      queue.push({found->rank, left, found->merged});
  };
  while (!queue.empty()) {
    const auto top = queue.top();
    queue.pop();
    auto& left = symbols[top.at];
    if (left.gone || left.next < 0)
      continue;
    auto& right = symbols[left.next];
    const auto* now = merges_.find(left.id, right.id);
    if (!now || now->merged != top.merged)
      continue; // what it spoke of was merged otherwise meanwhile
    left.id = top.merged;
    right.gone = true;
    left.next = right.next;
    if (left.next >= 0)
      symbols[left.next].previous = top.at;
    consider(left.previous);
    consider(top.at);
  }
}

} // namespace troupe::engine
