#include "engine/chat_template/chat_template.hpp"

#include <new>

#include <nlohmann/json.hpp>

#include "engine/chat_template/parser.hpp"
#include "engine/chat_template/runtime.hpp"
#include "engine/chat_template/unicode.hpp"

namespace troupe::engine {

namespace {

using nlohmann::ordered_json;

jinja::value to_value(const ordered_json& x, uint32_t depth) {
  using jinja::value;
  jinja::one_deeper(depth);
  switch (x.type()) {
  case ordered_json::value_t::boolean:
    return value::boolean(x.get<bool>());
  case ordered_json::value_t::number_integer:
    return value::integer(x.get<int64_t>());
  case ordered_json::value_t::number_unsigned: {
    const auto number = x.get<uint64_t>();
    return number <= INT64_MAX ? value::integer(static_cast<int64_t>(number))
                               : value::real(static_cast<double>(number));
  }
  case ordered_json::value_t::number_float:
    return value::real(x.get<double>());
  case ordered_json::value_t::string:
    return value::string(x.get_ref<const std::string&>());
  case ordered_json::value_t::array: {
    std::vector<value> items;
    items.reserve(x.size());
    for (const auto& item : x)
      items.push_back(to_value(item, depth + 1));
    return value::list(std::move(items));
  }
  case ordered_json::value_t::object: {
    std::vector<std::pair<value, value>> entries;
    entries.reserve(x.size());
    for (const auto& [key, item] : x.items())
      entries.emplace_back(value::string(key), to_value(item, depth + 1));
    return jinja::make_dict(std::move(entries));
  }
  default:
    return value::none();
  }
}

caf::error explain(const jinja::failure& why, const std::string& origin, uint32_t line) {
  if (why.code == template_errc::raised)
    return caf::make_error(why.code, why.text);
  return caf::make_error(why.code, "chat template " + origin + ", line " +
                                       std::to_string(why.line != 0 ? why.line : line) + ": " +
                                       why.text);
}

} // namespace

struct chat_template::state {
  std::string origin;
  chat_template_options options;
  jinja::program tree;
};

chat_template::chat_template(std::unique_ptr<const state> held) : state_{std::move(held)} {}
chat_template::~chat_template() = default;

caf::expected<std::shared_ptr<const chat_template>>
chat_template::compile(std::string_view source, const std::string& origin,
                       chat_template_options options) {
  if (source.size() > options.source_bytes_max)
    return caf::make_error(template_errc::limit,
                           "chat template " + origin + " has " + std::to_string(source.size()) +
                               " bytes; at most " + std::to_string(options.source_bytes_max) +
                               " are allowed");
  if (!jinja::valid_utf8(source))
    return caf::make_error(template_errc::syntax,
                           "chat template " + origin + " is not valid UTF-8: save it as UTF-8");
  if (!options.now)
    options.now = [] { return std::time(nullptr); };
  try {
    auto made = std::make_unique<state>();
    made->origin = origin;
    made->options = std::move(options);
    made->tree = jinja::parse(source);
    jinja::bind(made->tree);
    return std::shared_ptr<const chat_template>{new chat_template{std::move(made)}};
  } catch (const jinja::failure& why) {
    return explain(why, origin, 1);
  }
}

caf::expected<std::string> chat_template::render(const ordered_json& context) const {
  const auto& [origin, options, tree] = *state_;
  if (!context.is_object())
    return caf::make_error(template_errc::runtime,
                           "chat template " + origin + ": its variables must be a JSON object");
  uint32_t line = 1;
  try {
    jinja::limits allowed;
    allowed.steps_max = options.steps_max;
    allowed.output_bytes_max = options.output_bytes_max;
    jinja::runtime rt{allowed, options.now, to_value(context, 0)};
    try {
      std::string out = rt.render(tree);
      if (!jinja::valid_utf8(out))
        jinja::fail("the output holds half a surrogate pair, which is not text");
      return out;
    } catch (const jinja::failure&) {
      line = rt.line();
      throw;
    }
  } catch (const jinja::failure& why) {
    return explain(why, origin, line);
  } catch (const std::bad_alloc&) {
    return caf::make_error(template_errc::limit, "chat template " + origin + ": out of memory");
  }
}

} // namespace troupe::engine
