// Evaluating expressions.
#include "engine/chat_template/operators.hpp"
#include "engine/chat_template/registry.hpp"
#include "engine/chat_template/runtime.hpp"

namespace troupe::engine::jinja {

value& runtime::slot(environment& scope, const slot_ref& where) const {
  environment* at = &scope;
  for (uint32_t i = 0; i < where.hops; ++i)
    at = at->parent.get();
  return at->slots[where.index];
}

value runtime::resolve(const std::string& name) const {
  if (const value* found = context_.as<dict_object>().find(std::string_view{name}))
    return *found;
  const auto global = globals().find(name);
  return global == globals().end() ? value{} : global->second;
}

value runtime::evaluate(const expr& node, environment& scope) {
  charge(1);
  if (node.kind == expr_kind::constant)
    return node.constant;
  if (node.kind == expr_kind::name)
    return evaluate_name(node, scope);
  const nesting guard{*this};
  return evaluate_unguarded(node, scope);
}

value runtime::evaluate_name(const expr& node, environment& scope) {
  const value& found = slot(scope, node.slot);
  return found.is_missing() ? value::undefined(quote(node.text) + " is undefined") : found;
}

value runtime::evaluate_unguarded(const expr& node, environment& scope) {
  const auto part = [&](size_t i) { return evaluate(*node.parts[i], scope); };
  switch (node.kind) {
  case expr_kind::list:
  case expr_kind::tuple:
  case expr_kind::dict:
    return evaluate_collection(node, scope);
  case expr_kind::attribute: {
    const value of = part(0);
    line_ = node.line;
    return attribute(of, node.constant);
  }
  case expr_kind::item:
    return evaluate_item(node, scope);
  case expr_kind::call:
    return evaluate_call(node, scope);
  case expr_kind::filter:
  case expr_kind::test:
    return evaluate_function(node, scope, part(0));
  case expr_kind::concat:
    return evaluate_concat(node, scope);
  case expr_kind::compare:
    return evaluate_compare(node, scope);
  case expr_kind::conditional:
    if (truthy(part(0)))
      return part(1);
    return node.parts[2]
               ? part(2)
               : value::undefined("the inline if-expression on line " + std::to_string(node.line) +
                                  " evaluated to false and no else section was defined.");
  case expr_kind::logical_and: {
    value left = part(0);
    return truthy(left) ? part(1) : left;
  }
  case expr_kind::logical_or: {
    value left = part(0);
    return truthy(left) ? left : part(1);
  }
  case expr_kind::logical_not:
    return value::boolean(!truthy(part(0)));
  case expr_kind::negate:
    return jinja::negate(part(0));
  case expr_kind::plus:
    return jinja::plus(part(0));
  default:
    return evaluate_arithmetic(node, scope);
  }
}

value runtime::evaluate_arithmetic(const expr& node, environment& scope) {
  const value left = evaluate(*node.parts[0], scope);
  const value right = evaluate(*node.parts[1], scope);
  line_ = node.line;
  return arithmetic(*this, node.kind, left, right);
}

value runtime::evaluate_collection(const expr& node, environment& scope) {
  std::vector<value> parts;
  parts.reserve(node.parts.size());
  for (const auto& part : node.parts)
    parts.push_back(evaluate(*part, scope));
  line_ = node.line;
  if (node.kind == expr_kind::list)
    return list(std::move(parts));
  if (node.kind == expr_kind::tuple)
    return value::tuple(std::move(parts));
  std::vector<std::pair<value, value>> entries;
  entries.reserve(parts.size() / 2);
  for (size_t i = 0; i + 1 < parts.size(); i += 2)
    entries.emplace_back(std::move(parts[i]), std::move(parts[i + 1]));
  return make_dict(std::move(entries));
}

value runtime::evaluate_item(const expr& node, environment& scope) {
  const value of = evaluate(*node.parts[0], scope);
  const expr& key = *node.parts[1];
  if (key.kind != expr_kind::slice) {
    const value at = evaluate(key, scope);
    line_ = node.line;
    return item(of, at);
  }
  value bounds[3];
  for (size_t i = 0; i < 3; ++i)
    if (key.parts[i])
      bounds[i] = evaluate(*key.parts[i], scope);
  line_ = node.line;
  return jinja::slice(*this, of, bounds[0], bounds[1], bounds[2]);
}

call_values runtime::evaluate_arguments(const call_arguments* arguments, environment& scope) {
  call_values out;
  if (!arguments)
    return out;
  out.positional.reserve(arguments->positional.size());
  for (const auto& x : arguments->positional)
    out.positional.push_back(evaluate(*x, scope));
  for (const auto& [name, x] : arguments->named)
    out.named.emplace_back(name, evaluate(*x, scope));
  if (arguments->star)
    for (auto& x : collect(*this, evaluate(*arguments->star, scope)))
      out.positional.push_back(std::move(x));
  if (!arguments->star_star)
    return out;
  const value more = evaluate(*arguments->star_star, scope);
  if (!more.is(kind::dict))
    fail("argument after ** must be a mapping, not " + type_name(more));
  for (const auto& [key, x] : more.as<dict_object>().entries) {
    const auto& name = to_string_argument(key, "keywords");
    for (const auto& [other, unused] : out.named)
      if (other == name)
        fail("got multiple values for keyword argument '" + name + "'");
    out.named.emplace_back(name, x);
  }
  return out;
}

value runtime::evaluate_call(const expr& node, environment& scope) {
  const value callee = evaluate(*node.parts[0], scope);
  call_values arguments = evaluate_arguments(node.arguments.get(), scope);
  line_ = node.line;
  return call(callee, arguments);
}

value runtime::evaluate_function(const expr& node, environment& scope, const value& subject) {
  call_values arguments = evaluate_arguments(node.arguments.get(), scope);
  line_ = node.line;
  if (!node.function)
    fail(std::string("No ") + (node.kind == expr_kind::filter ? "filter" : "test") + " named '" +
         node.text + "' found.");
  return node.function(*this, subject, arguments);
}

/// Filters of a filter or set block: the innermost has no operand of its own and gets `subject`.
value runtime::apply_filters(const expr& node, environment& scope, const value& subject) {
  return evaluate_function(node, scope,
                           node.parts[0] ? apply_filters(*node.parts[0], scope, subject) : subject);
}

value runtime::evaluate_concat(const expr& node, environment& scope) {
  std::string out;
  for (const auto& part : node.parts) {
    const value x = evaluate(*part, scope);
    charge(x.weight() / 4);
    if (x.is(kind::string))
      out += x.text();
    else
      out += to_text(x);
    if (out.size() > allowed_.output_bytes_max)
      break; // text() refuses it
  }
  line_ = node.line;
  return text(std::move(out));
}

value runtime::evaluate_compare(const expr& node, environment& scope) {
  value left = evaluate(*node.parts[0], scope);
  value answer = value::boolean(true);
  for (size_t i = 0; i < node.compares.size(); ++i) {
    value right = evaluate(*node.parts[i + 1], scope);
    line_ = node.line;
    answer = jinja::compare(*this, node.compares[i], left, right);
    if (!truthy(answer))
      return answer;
    left = std::move(right);
  }
  return answer;
}

} // namespace troupe::engine::jinja
