#include "engine/tokenizer/tokenizer.hpp"

#include <algorithm>

#include "engine/tokenizer/tokenizer_parts.hpp"
#include "engine/tokenizer/utf8.hpp"

namespace troupe::engine {

void tokenizer::parts::encode_word(std::string_view word, const run& on) const {
  const auto before = on.out.size();
  on.cache.append(word, on.out, [this](auto text, auto& out) { model.encode(text, out); });
  if (on.parse_special || !specials_in_model)
    return;
  // Where special tokens are part of the model's vocabulary, merges could still spell one.
  const auto names_special = [&](token_id id) { return is_special(id) && id != model.unknown(); };
  if (std::any_of(on.out.begin() + static_cast<ptrdiff_t>(before), on.out.end(), names_special)) {
    on.out.resize(before);
    model.spell(word, on.out);
  }
}

void tokenizer::parts::encode_piece(std::string_view text, const run& on) const {
  if (cut_mark.empty()) {
    encode_word(text, on);
    return;
  }
  size_t begin = 0;
  for (size_t at = text.find(cut_mark, 1); at != std::string_view::npos;
       at = text.find(cut_mark, at + cut_mark.size())) {
    if (text.substr(begin, at - begin).ends_with(cut_mark))
      continue; // inside a run of marks
    encode_word(text.substr(begin, at - begin), on);
    begin = at;
  }
  if (begin < text.size())
    encode_word(text.substr(begin), on);
}

void tokenizer::parts::encode_text(std::string_view text, bool at_start, const run& on) const {
  const std::string normalized = normalize ? normalize->apply(std::string{text}) : std::string{};
  const std::string_view whole = normalize ? std::string_view{normalized} : text;
  piece_arena arena;
  for (const auto& part : normalized_matcher.split(whole, on.parse_special)) {
    if (part.token) {
      on.out.push_back(part.token->id);
      continue;
    }
    const piece between{whole.substr(part.begin, part.end - part.begin),
                        at_start && part.begin == 0};
    if (pre_tokenizer.steps.empty())
      encode_piece(between.text, on);
    else
      for (const auto& one : pre_tokenizer.run(between, arena))
        encode_piece(one.text, on);
  }
}

std::optional<std::string_view> tokenizer::parts::piece_of(token_id id) const {
  if (const auto found = added_by_id.find(id); found != added_by_id.end())
    return found->second->piece;
  const auto piece = model.tokens().token(id);
  return piece.empty() ? std::nullopt : std::optional{piece};
}

bool tokenizer::parts::is_special(token_id id) const {
  const auto found = added_by_id.find(id);
  return found != added_by_id.end() && found->second->special;
}

tokenizer::tokenizer(std::unique_ptr<parts> built) : parts_{std::move(built)} {}
tokenizer::~tokenizer() = default;

std::vector<token_id> tokenizer::encode(std::string_view text, bool add_special,
                                        bool parse_special) const {
  std::string repaired;
  if (!utf8::valid(text)) {
    repaired = utf8::sanitize(text);
    text = repaired;
  }
  std::vector<token_id> out;
  out.reserve(text.size() / 3 + 8);
  const auto& specials = parts_->specials;
  if (add_special)
    out.insert(out.end(), specials.before.begin(), specials.before.end());
  std::unique_lock<std::mutex> guard;
  const parts::run on{out, parts_->words.acquire(guard), parse_special};
  for (const auto& part : parts_->raw_matcher.split(text, parse_special)) {
    if (part.token)
      out.push_back(part.token->id);
    else
      parts_->encode_text(text.substr(part.begin, part.end - part.begin), part.begin == 0, on);
  }
  if (add_special)
    out.insert(out.end(), specials.after.begin(), specials.after.end());
  return out;
}

std::string tokenizer::decode(std::span<const token_id> ids, bool skip_special) const {
  auto state = parts_->decode.start();
  std::string out;
  for (const auto id : ids) {
    if (skip_special && parts_->is_special(id))
      continue;
    if (const auto piece = parts_->piece_of(id))
      parts_->decode.push(*piece, state, out, false);
  }
  parts_->decode.flush(state, out);
  return out;
}

std::optional<token_id> tokenizer::id_of(std::string_view token) const {
  if (const auto found = parts_->added_ids.find(std::string{token});
      found != parts_->added_ids.end())
    return found->second;
  return parts_->model.tokens().id_of(token);
}

std::string tokenizer::token_text(token_id id) const {
  return std::string{parts_->piece_of(id).value_or("")};
}

std::string tokenizer::token_bytes(token_id id) const {
  const auto piece = parts_->piece_of(id);
  if (!piece)
    return {};
  return parts_->added_by_id.contains(id) ? std::string{*piece} : parts_->decode.bytes_of(*piece);
}

bool tokenizer::is_special(token_id id) const { return parts_->is_special(id); }
size_t tokenizer::vocab_size() const { return parts_->vocab_size; }

} // namespace troupe::engine
