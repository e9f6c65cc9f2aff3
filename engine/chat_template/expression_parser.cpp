#include <algorithm>

#include "engine/chat_template/parser_base.hpp"

namespace troupe::engine::jinja {

expression_parser::nesting::nesting(expression_parser& owner) : owner_{owner} {
  if (++owner_.depth_ > parse_nesting_max)
    fail_at(template_errc::limit, owner_.current().line,
            "expressions or blocks are nested more than " + std::to_string(parse_nesting_max) +
                " deep");
}

bool expression_parser::skip(token_type type) {
  if (!is(type))
    return false;
  take();
  return true;
}

bool expression_parser::skip_name(std::string_view name) {
  if (!is_name(name))
    return false;
  take();
  return true;
}

const token& expression_parser::expect(token_type type) {
  if (!is(type))
    error("expected token '" + describe(type) + "', got '" + describe(current()) + "'");
  return take();
}

void expression_parser::expect_name(std::string_view name) {
  if (!is_name(name))
    error("expected token '" + std::string(name) + "', got '" + describe(current()) + "'");
  take();
}

void expression_parser::grow(expr& node, const expr* part) {
  if (!part)
    return;
  node.depth = std::max(node.depth, part->depth + 1);
  if (node.depth > expression_height_max)
    fail_at(template_errc::limit, node.line, "an expression is too long or nested too deep");
}

expr_ptr expression_parser::make(expr_kind kind, uint32_t line, std::vector<expr_ptr> parts) {
  auto node = std::make_unique<expr>();
  node->kind = kind;
  node->line = line;
  for (const auto& part : parts)
    grow(*node, part.get());
  node->parts = std::move(parts);
  return node;
}

expr_ptr expression_parser::unary(expr_kind kind, uint32_t line, expr_ptr part) {
  std::vector<expr_ptr> parts;
  parts.push_back(std::move(part));
  return make(kind, line, std::move(parts));
}

expr_ptr expression_parser::binary(expr_kind kind, uint32_t line, expr_ptr left, expr_ptr right) {
  std::vector<expr_ptr> parts;
  parts.push_back(std::move(left));
  parts.push_back(std::move(right));
  return make(kind, line, std::move(parts));
}

expr_ptr expression_parser::constant(uint32_t line, value x) {
  auto node = make(expr_kind::constant, line);
  node->constant = std::move(x);
  return node;
}

expr_ptr expression_parser::parse_expression(bool with_condition) {
  const nesting guard{*this};
  return with_condition ? parse_condition() : parse_or();
}

expr_ptr expression_parser::parse_condition() {
  const nesting guard{*this};
  const uint32_t line = current().line;
  auto node = parse_or();
  while (skip_name("if")) {
    auto test = parse_or();
    expr_ptr otherwise = skip_name("else") ? parse_condition() : nullptr;
    std::vector<expr_ptr> parts;
    parts.push_back(std::move(test));
    parts.push_back(std::move(node));
    parts.push_back(std::move(otherwise));
    node = make(expr_kind::conditional, line, std::move(parts));
  }
  return node;
}

expr_ptr expression_parser::parse_or() {
  auto left = parse_and();
  while (is_name("or")) {
    const uint32_t line = take().line;
    left = binary(expr_kind::logical_or, line, std::move(left), parse_and());
  }
  return left;
}

expr_ptr expression_parser::parse_and() {
  auto left = parse_not();
  while (is_name("and")) {
    const uint32_t line = take().line;
    left = binary(expr_kind::logical_and, line, std::move(left), parse_not());
  }
  return left;
}

expr_ptr expression_parser::parse_not() {
  if (!is_name("not"))
    return parse_compare();
  const nesting guard{*this};
  const uint32_t line = take().line;
  return unary(expr_kind::logical_not, line, parse_not());
}

expr_ptr expression_parser::parse_compare() {
  const uint32_t line = current().line;
  std::vector<expr_ptr> parts;
  std::vector<compare_op> compares;
  parts.push_back(parse_sum());
  for (;;) {
    const auto type = current().type;
    if (type >= token_type::eq && type <= token_type::ge) {
      constexpr compare_op ops[] = {compare_op::eq, compare_op::ne, compare_op::lt,
                                    compare_op::le, compare_op::gt, compare_op::ge};
      compares.push_back(ops[static_cast<int>(type) - static_cast<int>(token_type::eq)]);
      take();
    } else if (skip_name("in")) {
      compares.push_back(compare_op::in);
    } else if (is_name("not") && ahead().type == token_type::name && ahead().text == "in") {
      take();
      take();
      compares.push_back(compare_op::not_in);
    } else {
      break;
    }
    parts.push_back(parse_sum());
  }
  if (compares.empty())
    return std::move(parts[0]);
  auto node = make(expr_kind::compare, line, std::move(parts));
  node->compares = std::move(compares);
  return node;
}

expr_ptr expression_parser::parse_sum() {
  auto left = parse_concat();
  while (is(token_type::add) || is(token_type::sub)) {
    const auto& op = take();
    const auto kind = op.type == token_type::add ? expr_kind::add : expr_kind::sub;
    left = binary(kind, op.line, std::move(left), parse_concat());
  }
  return left;
}

expr_ptr expression_parser::parse_concat() {
  const uint32_t line = current().line;
  std::vector<expr_ptr> parts;
  parts.push_back(parse_product());
  while (skip(token_type::tilde))
    parts.push_back(parse_product());
  if (parts.size() == 1)
    return std::move(parts[0]);
  return make(expr_kind::concat, line, std::move(parts));
}

expr_ptr expression_parser::parse_product() {
  auto left = parse_power();
  for (;;) {
    expr_kind kind = expr_kind::mul;
    switch (current().type) {
    case token_type::mul:
      break;
    case token_type::div:
      kind = expr_kind::div;
      break;
    case token_type::floordiv:
      kind = expr_kind::floordiv;
      break;
    case token_type::mod:
      kind = expr_kind::mod;
      break;
    default:
      return left;
    }
    const uint32_t line = take().line;
    left = binary(kind, line, std::move(left), parse_power());
  }
}

expr_ptr expression_parser::parse_power() {
  auto left = parse_unary();
  while (is(token_type::pow)) {
    const uint32_t line = take().line;
    left = binary(expr_kind::pow, line, std::move(left), parse_unary());
  }
  return left;
}

expr_ptr expression_parser::parse_unary(bool with_filter) {
  const nesting guard{*this};
  expr_ptr node;
  const uint32_t line = current().line;
  if (skip(token_type::sub))
    node = unary(expr_kind::negate, line, parse_unary(false));
  else if (skip(token_type::add))
    node = unary(expr_kind::plus, line, parse_unary(false));
  else
    node = parse_primary();
  node = parse_postfix(std::move(node));
  return with_filter ? parse_filter_expr(std::move(node)) : std::move(node);
}

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

bool expression_parser::at_tuple_end(stop_words stops) const {
  if (is(token_type::variable_end) || is(token_type::block_end) || is(token_type::rparen))
    return true;
  return std::any_of(stops.begin(), stops.end(), [&](auto word) { return is_name(word); });
}

expr_ptr expression_parser::parse_tuple(bool with_condition, stop_words stops) {
  return collect_tuple(with_condition, stops, false, false, false);
}

expr_ptr expression_parser::collect_tuple(bool with_condition, stop_words stops, bool parenthesized,
                                          bool simple, bool with_space) {
  const nesting guard{*this};
  const uint32_t line = current().line;
  std::vector<expr_ptr> parts;
  bool is_tuple = false;
  for (;;) {
    if (!parts.empty())
      expect(token_type::comma);
    if (at_tuple_end(stops))
      break;
    parts.push_back(simple ? parse_primary(with_space) : parse_expression(with_condition));
    if (!is(token_type::comma))
      break;
    is_tuple = true;
  }
  if (!is_tuple && !parts.empty())
    return std::move(parts[0]);
  if (!is_tuple && !parenthesized)
    error("Expected an expression, got '" + describe(current()) + "'");
  return make(expr_kind::tuple, line, std::move(parts));
}

std::string expression_parser::parse_name_target() {
  const auto& name = expect(token_type::name);
  for (std::string_view reserved : {"true", "false", "none", "True", "False", "None"})
    if (name.text == reserved)
      error("can't assign to '" + name.text + "'", name.line);
  return name.text;
}

expr_ptr expression_parser::parse_target(stop_words stops, bool with_space) {
  auto node = collect_tuple(true, stops, false, true, with_space);
  mark_stored(*node);
  return node;
}

void expression_parser::mark_stored(expr& node) const {
  switch (node.kind) {
  case expr_kind::name:
    node.stored = true;
    return;
  case expr_kind::space_attribute:
    return;
  case expr_kind::tuple:
    for (auto& part : node.parts)
      mark_stored(*part);
    return;
  default:
    error("can't assign to this expression", node.line);
  }
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
  auto key = keys.size() == 1 ? std::move(keys[0])
                              : make(expr_kind::tuple, first.line, std::move(keys));
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
