// Operators in their order of precedence, tuples and assignment targets.
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

} // namespace troupe::engine::jinja
