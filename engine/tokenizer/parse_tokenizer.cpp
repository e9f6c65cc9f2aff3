// tokenizer.json -> tokenizer::parts.
#include <fstream>

#include "engine/tokenizer/field_types.hpp"
#include "engine/tokenizer/tokenizer_parts.hpp"
#include "engine/tokenizer/utf8.hpp"

namespace troupe::engine {

namespace {

using json_fields::element;
using json_fields::malformed;

/// A tokenizer with 256k tokens is some 35 MB.
constexpr uintmax_t file_bytes_max = 512u << 20;

caf::error read_added(element root, const std::string& origin, std::vector<added_token>& out) {
  const auto field = json_fields::find(root, "added_tokens");
  if (!field)
    return {};
  simdjson::dom::array list;
  if (field->get(list))
    return malformed(origin, "`added_tokens` is not a list");
  for (const auto entry : list) {
    added_token token;
    const auto id = json_fields::integer(entry, "id", -1);
    token.content = json_fields::text(entry, "content");
    if (id < 0 || id > token_id_max)
      return malformed(origin, "the added token '" + token.content + "' has no valid id");
    token.id = static_cast<token_id>(id);
    token.special = json_fields::flag(entry, "special", false);
    token.single_word = json_fields::flag(entry, "single_word", false);
    token.lstrip = json_fields::flag(entry, "lstrip", false);
    token.rstrip = json_fields::flag(entry, "rstrip", false);
    token.normalized = json_fields::flag(entry, "normalized", !token.special);
    if (!token.content.empty())
      out.push_back(std::move(token));
  }
  return {};
}

caf::error read_steps(element root, const std::string& origin, outer_steps& out) {
  if (const auto spec = json_fields::find(root, "normalizer")) {
    auto made = make_normalizer(*spec, origin);
    if (!made)
      return made.error();
    out.normalize = std::move(*made);
  }
  if (const auto spec = json_fields::find(root, "pre_tokenizer"))
    if (auto why = add_pre_tokenizer(*spec, origin, out.chain))
      return why;
  if (const auto spec = json_fields::find(root, "post_processor"))
    if (auto why = add_post_processor(*spec, origin, out.specials))
      return why;
  return {};
}

/// Parses all but the vocabulary; gives the model's own part.
caf::expected<element> read_outer(std::string_view json, const std::string& origin,
                                  simdjson::dom::parser& parser, element& root, outer_steps& out) {
  if (const auto why = parser.parse(json.data(), json.size()).get(root))
    return malformed(origin, std::string{"not valid JSON: "} + simdjson::error_message(why));
  const auto model = json_fields::find(root, "model");
  if (!model)
    return malformed(origin, "there is no `model`; is this a tokenizer.json?");
  if (auto why = check_field_types(root, origin))
    return why;
  // Old files leave the type out; they have merges.
  const auto type = json_fields::text(*model, "type", "BPE");
  if (type != "BPE")
    return caf::make_error(tokenizer_errc::unsupported,
                           origin + ": the tokenizer model '" + type +
                               "' is not supported, only BPE is; convert the tokenizer or choose "
                               "another checkpoint");
  if (auto why = read_steps(root, origin, out))
    return why;
  return *model;
}

} // namespace

caf::error tokenizer::parts::finish(element root, std::vector<added_token> tokens,
                                    const std::string& origin) {
  auto made = decoder::make(json_fields::find(root, "decoder"), origin);
  if (!made)
    return made.error();
  decode = std::move(*made);
  added = std::move(tokens);
  vocab_size = model.tokens().size();
  for (auto& token : added) {
    const bool by_normalized = token.normalized && normalize;
    token.piece = by_normalized ? normalize->apply(token.content) : token.content;
    added_by_id.emplace(token.id, &token);
    added_ids.emplace(token.content, token.id);
    vocab_size = std::max(vocab_size, static_cast<size_t>(token.id) + 1);
    specials_in_model |= token.special && !model.tokens().token(token.id).empty();
    if (!token.normalized)
      raw_matcher.add(token.content, &token);
    else if (!token.piece.empty())
      normalized_matcher.add(token.piece, &token);
  }
  for (const auto* ids : {&specials.before, &specials.after})
    for (const auto id : *ids)
      if (static_cast<size_t>(id) >= vocab_size)
        return malformed(origin, "the post-processor adds the id " + std::to_string(id) +
                                     ", which no token has");
  constexpr std::string_view mark = "\u2581";
  if (!pre_tokenizer.byte_level && model.may_cut_before(mark))
    cut_mark = mark;
  return {};
}

caf::expected<std::shared_ptr<const tokenizer>>
tokenizer::parts::join(outer_steps steps, bpe model, element root, std::vector<added_token> tokens,
                       const std::string& origin) {
  auto built = std::make_unique<parts>(std::move(model));
  built->normalize = std::move(steps.normalize);
  built->pre_tokenizer = std::move(steps.chain);
  built->specials = std::move(steps.specials);
  if (auto why = built->finish(root, std::move(tokens), origin))
    return why;
  return std::shared_ptr<const tokenizer>{new tokenizer{std::move(built)}};
}

caf::expected<std::shared_ptr<const tokenizer>> tokenizer::parse(std::string_view json,
                                                                 const std::string& origin) {
  simdjson::dom::parser parser;
  element root;
  outer_steps steps;
  const auto spec = read_outer(json, origin, parser, root, steps);
  if (!spec)
    return spec.error();
  auto model = bpe::make(*spec, steps.chain.byte_level, origin);
  if (!model)
    return model.error();
  std::vector<added_token> added;
  if (auto why = read_added(root, origin, added))
    return why;
  return parts::join(std::move(steps), std::move(*model), root, std::move(added), origin);
}

caf::expected<std::shared_ptr<const tokenizer>>
tokenizer::assemble(std::string_view json, const token_lists& lists, const std::string& origin) {
  simdjson::dom::parser parser;
  element root;
  outer_steps steps;
  const auto spec = read_outer(json, origin, parser, root, steps);
  if (!spec)
    return spec.error();
  auto tokens = vocabulary::make(lists.tokens, origin);
  if (!tokens)
    return tokens.error();
  auto model = bpe::make(*spec, steps.chain.byte_level, std::move(*tokens), lists.merges, origin);
  if (!model)
    return model.error();
  std::vector<added_token> added;
  for (const auto& one : lists.added) {
    if (one.id < 0 || one.id > token_id_max || !utf8::valid(one.text))
      return malformed(origin, "the added token " + std::to_string(one.id) +
                                   " has no valid id or no valid text");
    added_token token;
    token.id = one.id;
    token.content = one.text;
    token.special = one.special;
    if (!token.content.empty())
      added.push_back(std::move(token));
  }
  return parts::join(std::move(steps), std::move(*model), root, std::move(added), origin);
}

caf::expected<std::shared_ptr<const tokenizer>> tokenizer::load(const std::filesystem::path& file) {
  std::error_code why;
  const auto size = std::filesystem::file_size(file, why);
  if (why)
    return caf::make_error(tokenizer_errc::unreadable,
                           "cannot read the tokenizer " + file.string() + ": " + why.message());
  if (size > file_bytes_max)
    return malformed(file.string(), "larger than any tokenizer.json can be");
  std::string text(size, '\0');
  std::ifstream in(file, std::ios::binary);
  if (!in.read(text.data(), static_cast<std::streamsize>(size)))
    return caf::make_error(tokenizer_errc::unreadable,
                           "cannot read the tokenizer " + file.string());
  return parse(text, file.string());
}

} // namespace troupe::engine
