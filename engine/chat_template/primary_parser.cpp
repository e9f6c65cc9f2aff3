// Literals, names, and what follows them: attributes, subscripts, calls, filters and tests.
#include "engine/chat_template/parser_base.hpp"

namespace troupe::engine::jinja {

expr_ptr expression_parser::parse_primary(bool with_space) {
  const auto& first = current();
  switch (first.type) {
  case token_type::name:
    return parse_name(with_space);
  case token_type::string: {
    std::string text;
    while (is(token_type::string))
      text += take().text;
    return constant(first.line, value::string(std::move(text)));
  }
  case token_type::integer:
    take();
    return constant(first.line, value::integer(first.integer));
  case token_type::real:
    take();
    return constant(first.line, value::real(first.real));
  case token_type::lparen:
    return parse_parenthesized();
  case token_type::lbracket:
    return parse_list();
  case token_type::lbrace:
    return parse_dict();
  default:
    error("unexpected '" + describe(first) + "'");
  }
}

expr_ptr expression_parser::parse_name(bool with_space) {
  const auto& first = take();
  if (first.text == "true" || first.text == "True")
    return constant(first.line, value::boolean(true));
  if (first.text == "false" || first.text == "False")
    return constant(first.line, value::boolean(false));
  if (first.text == "none" || first.text == "None")
    return constant(first.line, value::none());
  auto node = make(expr_kind::name, first.line);
  node->text = first.text;
  if (!with_space || !skip(token_type::dot))
    return node;
  auto target = unary(expr_kind::space_attribute, first.line, std::move(node));
  target->text = expect(token_type::name).text;
  return target;
}

expr_ptr expression_parser::parse_parenthesized() {
  expect(token_type::lparen);
  auto node = collect_tuple(true, {}, true, false, false);
  expect(token_type::rparen);
  return node;
}

expr_ptr expression_parser::parse_list() {
  const uint32_t line = expect(token_type::lbracket).line;
  std::vector<expr_ptr> parts;
  while (!is(token_type::rbracket)) {
    if (!parts.empty())
      expect(token_type::comma);
    if (is(token_type::rbracket))
      break;
    parts.push_back(parse_expression());
  }
  expect(token_type::rbracket);
  return make(expr_kind::list, line, std::move(parts));
}

expr_ptr expression_parser::parse_dict() {
  const uint32_t line = expect(token_type::lbrace).line;
  std::vector<expr_ptr> parts;
  while (!is(token_type::rbrace)) {
    if (!parts.empty())
      expect(token_type::comma);
    if (is(token_type::rbrace))
      break;
    parts.push_back(parse_expression());
    expect(token_type::colon);
    parts.push_back(parse_expression());
  }
  expect(token_type::rbrace);
  return make(expr_kind::dict, line, std::move(parts));
}

expr_ptr expression_parser::parse_postfix(expr_ptr node) {
  for (;;) {
    if (is(token_type::dot) || is(token_type::lbracket))
      node = parse_subscript(std::move(node));
    else if (is(token_type::lparen))
      node = parse_call(std::move(node));
    else
      return node;
  }
}

expr_ptr expression_parser::parse_filter_expr(expr_ptr node) {
  for (;;) {
    if (is(token_type::pipe))
      node = parse_filters(std::move(node), false);
    else if (is_name("is"))
      node = parse_test(std::move(node));
    else if (is(token_type::lparen))
      node = parse_call(std::move(node));
    else
      return node;
  }
}

expr_ptr expression_parser::parse_subscript(expr_ptr node) {
  const auto& first = take();
  if (first.type == token_type::dot) {
    const auto& attribute = take();
    if (attribute.type == token_type::name) {
      auto out = unary(expr_kind::attribute, first.line, std::move(node));
      out->text = attribute.text;
      out->constant = value::string(attribute.text);
      return out;
    }
    if (attribute.type != token_type::integer)
      error("expected name or number", attribute.line);
    return binary(expr_kind::item, first.line, std::move(node),
                  constant(attribute.line, value::integer(attribute.integer)));
  }
  std::vector<expr_ptr> keys;
  while (!is(token_type::rbracket)) {
    if (!keys.empty())
      expect(token_type::comma);
    keys.push_back(parse_subscribed());
  }
  expect(token_type::rbracket);
  auto key =
      keys.size() == 1 ? std::move(keys[0]) : make(expr_kind::tuple, first.line, std::move(keys));
  return binary(expr_kind::item, first.line, std::move(node), std::move(key));
}

expr_ptr expression_parser::parse_subscribed() {
  const uint32_t line = current().line;
  std::vector<expr_ptr> bounds(3);
  if (!is(token_type::colon)) {
    auto node = parse_expression();
    if (!is(token_type::colon))
      return node;
    bounds[0] = std::move(node);
  }
  take();
  const auto at_end = [&] { return is(token_type::rbracket) || is(token_type::comma); };
  if (!is(token_type::colon) && !at_end())
    bounds[1] = parse_expression();
  if (skip(token_type::colon) && !at_end())
    bounds[2] = parse_expression();
  return make(expr_kind::slice, line, std::move(bounds));
}

void expression_parser::parse_argument(expr& node, uint32_t line) {
  auto& arguments = *node.arguments;
  const auto ensure = [&](bool fine) {
    if (!fine)
      error("invalid syntax for function call expression", line);
  };
  expr_ptr* place = nullptr;
  if (skip(token_type::mul)) {
    ensure(!arguments.star && !arguments.star_star);
    place = &(arguments.star = parse_expression());
  } else if (skip(token_type::pow)) {
    ensure(!arguments.star_star);
    place = &(arguments.star_star = parse_expression());
  } else if (is(token_type::name) && ahead().type == token_type::assign) {
    ensure(!arguments.star_star);
    std::string name = take().text;
    take();
    for (const auto& [other, unused] : arguments.named)
      ensure(other != name);
    place = &arguments.named.emplace_back(std::move(name), parse_expression()).second;
  } else {
    ensure(!arguments.star && !arguments.star_star && arguments.named.empty());
    place = &arguments.positional.emplace_back(parse_expression());
  }
  grow(node, place->get());
}

void expression_parser::parse_arguments(expr& node) {
  const uint32_t line = expect(token_type::lparen).line;
  node.arguments = std::make_unique<call_arguments>();
  for (bool first = true; !is(token_type::rparen); first = false) {
    if (!first) {
      expect(token_type::comma);
      if (is(token_type::rparen))
        break;
    }
    parse_argument(node, line);
  }
  expect(token_type::rparen);
}

expr_ptr expression_parser::parse_call(expr_ptr node) {
  auto out = unary(expr_kind::call, current().line, std::move(node));
  parse_arguments(*out);
  return out;
}

expr_ptr expression_parser::parse_filters(expr_ptr node, bool inline_start) {
  while (is(token_type::pipe) || inline_start) {
    if (!inline_start)
      take();
    const auto& first = expect(token_type::name);
    auto out = unary(expr_kind::filter, first.line, std::move(node));
    out->text = first.text;
    while (skip(token_type::dot))
      out->text += "." + expect(token_type::name).text;
    if (is(token_type::lparen))
      parse_arguments(*out);
    node = std::move(out);
    inline_start = false;
  }
  return node;
}

expr_ptr expression_parser::parse_test(expr_ptr node) {
  const uint32_t line = take().line;
  const bool negated = skip_name("not");
  auto out = unary(expr_kind::test, line, std::move(node));
  out->text = expect(token_type::name).text;
  while (skip(token_type::dot))
    out->text += "." + expect(token_type::name).text;
  const auto type = current().type;
  const bool operand = type == token_type::name || type == token_type::string ||
                       type == token_type::integer || type == token_type::real ||
                       type == token_type::lbracket || type == token_type::lbrace;
  if (type == token_type::lparen) {
    parse_arguments(*out);
  } else if (operand && !is_name("else") && !is_name("or") && !is_name("and")) {
    if (is_name("is"))
      error("You cannot chain multiple tests with is");
    out->arguments = std::make_unique<call_arguments>();
    auto argument = parse_postfix(parse_primary());
    grow(*out, argument.get());
    out->arguments->positional.push_back(std::move(argument));
  }
  return negated ? unary(expr_kind::logical_not, line, std::move(out)) : std::move(out);
}

} // namespace troupe::engine::jinja
