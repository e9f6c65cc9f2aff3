#include "engine/tokenizer/post_processor.hpp"

namespace troupe::engine {

namespace {

using json_fields::element;

caf::error add_special(element spec, std::string_view name, const std::string& origin,
                       std::vector<token_id>& to) {
  simdjson::dom::array ids;
  const auto specials = json_fields::find(spec, "special_tokens");
  const auto entry = specials ? json_fields::find(*specials, name) : std::nullopt;
  const auto field = entry ? json_fields::find(*entry, "ids") : std::nullopt;
  if (!field || field->get(ids))
    return json_fields::malformed(origin, "the template names the special token '" +
                                              std::string{name} + "', which it does not define");
  for (const auto one : ids) {
    int64_t id = -1;
    if (one.get(id) || id < 0 || id > INT32_MAX)
      return json_fields::malformed(origin, "a special token of the template has no valid id");
    to.push_back(static_cast<token_id>(id));
  }
  return {};
}

caf::error add_template(element spec, const std::string& origin, post_processor& out) {
  simdjson::dom::array single;
  const auto field = json_fields::find(spec, "single");
  if (!field || field->get(single))
    return json_fields::malformed(origin, "TemplateProcessing has no list `single`");
  bool behind = false;
  std::vector<token_id> before, after;
  for (const auto part : single) {
    if (json_fields::find(part, "Sequence")) {
      behind = true;
      continue;
    }
    const auto special = json_fields::find(part, "SpecialToken");
    if (!special)
      return json_fields::malformed(origin,
                                    "a part of `single` is neither Sequence nor SpecialToken");
    if (auto why =
            add_special(spec, json_fields::text(*special, "id"), origin, behind ? after : before))
      return why;
  }
  out.before.insert(out.before.begin(), before.begin(), before.end());
  out.after.insert(out.after.end(), after.begin(), after.end());
  return {};
}

/// ["<s>", 0]
caf::error add_pair(element spec, std::string_view key, const std::string& origin,
                    std::vector<token_id>& to) {
  simdjson::dom::array pair;
  int64_t id = -1;
  const auto field = json_fields::find(spec, key);
  if (!field || field->get(pair) || pair.size() != 2 || pair.at(1).get(id) || id < 0 ||
      id > INT32_MAX)
    return json_fields::malformed(origin, "`" + std::string{key} + "` is not [token, id]");
  to.push_back(static_cast<token_id>(id));
  return {};
}

} // namespace

caf::error add_post_processor(element spec, const std::string& origin, post_processor& out) {
  const auto type = json_fields::text(spec, "type");
  if (type == "Sequence") {
    simdjson::dom::array list;
    const auto field = json_fields::find(spec, "processors");
    if (!field || field->get(list))
      return json_fields::malformed(origin, "a Sequence post-processor has no list `processors`");
    for (const auto child : list)
      if (auto why = add_post_processor(child, origin, out))
        return why;
    return {};
  }
  if (type == "TemplateProcessing")
    return add_template(spec, origin, out);
  if (type == "ByteLevel")
    return {};
  if (type == "RobertaProcessing" || type == "BertProcessing") {
    if (auto why = add_pair(spec, "cls", origin, out.before))
      return why;
    return add_pair(spec, "sep", origin, out.after);
  }
  return caf::make_error(tokenizer_errc::unsupported,
                         origin + ": the post-processor '" + type + "' is not supported");
}

} // namespace troupe::engine
