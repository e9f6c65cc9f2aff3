// Executing statements, and the scopes they run in.
#include "engine/chat_template/runtime.hpp"

namespace troupe::engine::jinja {

void runtime::emit(std::string& out, std::string_view text) {
  if (out.size() + text.size() > allowed_.output_bytes_max)
    fail_limit("the output is longer than " + std::to_string(allowed_.output_bytes_max) + " bytes");
  charge(text.size() / 16 + 1);
  out += text;
}

void runtime::fill(environment& made, const scope& variables) {
  made.slots.clear();
  made.slots.reserve(variables.variables.size());
  for (const auto& x : variables.variables) {
    if (x.load == load_kind::resolve)
      made.slots.push_back(resolve(x.name));
    else if (x.load == load_kind::alias)
      made.slots.push_back(slot(*made.parent, {x.outer.hops - 1, x.outer.index}));
    else
      made.slots.emplace_back();
  }
}

environment_ptr runtime::enter(const scope& variables, const environment_ptr& parent) {
  charge(variables.variables.size() + 1);
  auto made = std::make_shared<environment>();
  made->parent = parent;
  fill(*made, variables);
  return made;
}

std::string runtime::render(const program& tree) {
  std::string out;
  const auto root = enter(tree.variables, nullptr);
  execute(tree.body, root, out);
  return out;
}

flow runtime::execute(const block& body, const environment_ptr& scope, std::string& out) {
  for (const auto& node : body)
    if (const flow how = execute(*node, scope, out); how != flow::normal)
      return how;
  return flow::normal;
}

flow runtime::execute(const stmt& node, const environment_ptr& scope, std::string& out) {
  charge(1);
  line_ = node.line;
  switch (node.kind) {
  case stmt_kind::text:
    emit(out, node.text);
    return flow::normal;
  case stmt_kind::print: {
    const value x = evaluate(*node.subject, *scope);
    if (x.is(kind::string)) {
      emit(out, x.text());
    } else {
      charge(x.weight());
      emit(out, to_text(x));
    }
    return flow::normal;
  }
  case stmt_kind::assign:
    assign(*node.target, evaluate(*node.subject, *scope), *scope);
    return flow::normal;
  case stmt_kind::branch:
    return execute_branch(node, scope, out);
  case stmt_kind::loop: {
    const value source = evaluate(*node.subject, *scope);
    line_ = node.line;
    if (!node.recursive)
      return run_loop(node, source, scope, 0, out);
    std::string inner;
    run_loop(node, source, scope, 0, inner);
    emit(out, inner);
    return flow::normal;
  }
  case stmt_kind::assign_block:
  case stmt_kind::filter_block:
    return execute_captured(node, scope, out);
  case stmt_kind::macro:
    slot(*scope, node.slot) = make_macro(*node.function, node.text, scope);
    return flow::normal;
  case stmt_kind::call_block:
    execute_call_block(node, scope, out);
    return flow::normal;
  case stmt_kind::generation: {
    call_values nothing;
    emit(out, call_function(*node.function, "generation", scope, nothing).text());
    return flow::normal;
  }
  case stmt_kind::with:
    return execute_with(node, scope, out);
  case stmt_kind::stop:
    return flow::stop;
  case stmt_kind::next:
    return flow::next;
  }
  return flow::normal;
}

flow runtime::execute_branch(const stmt& node, const environment_ptr& scope, std::string& out) {
  const nesting guard{*this};
  for (const auto& [condition, body] : node.arms)
    if (truthy(evaluate(*condition, *scope)))
      return execute(body, scope, out);
  return execute(node.otherwise, scope, out);
}

flow runtime::execute_captured(const stmt& node, const environment_ptr& scope, std::string& out) {
  const nesting guard{*this};
  const auto inner = enter(node.inner, scope);
  std::string captured;
  if (const flow how = execute(node.body, inner, captured); how != flow::normal)
    return how; // the block is left without having done anything
  value result = text(std::move(captured));
  if (node.subject)
    result = apply_filters(*node.subject, *inner, result);
  if (node.kind == stmt_kind::assign_block)
    assign(*node.target, std::move(result), *scope);
  else
    emit(out, to_text(result));
  return flow::normal;
}

flow runtime::execute_with(const stmt& node, const environment_ptr& scope, std::string& out) {
  const nesting guard{*this};
  const auto inner = enter(node.inner, scope);
  for (const auto& [target, subject] : node.bindings)
    assign(*target, evaluate(*subject, *scope), *inner);
  return execute(node.body, inner, out);
}

void runtime::assign(const expr& target, value x, environment& scope) {
  if (target.kind == expr_kind::name) {
    slot(scope, target.slot) = std::move(x);
    return;
  }
  if (target.kind == expr_kind::space_attribute) {
    const value space = evaluate(*target.parts[0], scope);
    if (!space.is(kind::space))
      fail("cannot assign attribute on non-namespace object");
    if (target.text.starts_with('_'))
      fail("cannot store underscore-prefixed attributes on a namespace, but got " +
           quote(target.text));
    space.as<space_object>().attributes.set(value::string(target.text), std::move(x));
    return;
  }
  const size_t wanted = target.parts.size();
  std::vector<value> items;
  cursor source{*this, x};
  while (auto next = source.next()) {
    if (items.size() == wanted)
      fail("too many values to unpack (expected " + std::to_string(wanted) + ")");
    items.push_back(std::move(*next));
  }
  if (items.size() < wanted)
    fail("not enough values to unpack (expected " + std::to_string(wanted) + ", got " +
         std::to_string(items.size()) + ")");
  for (size_t i = 0; i < wanted; ++i)
    assign(*target.parts[i], std::move(items[i]), scope);
}

} // namespace troupe::engine::jinja
