#include <algorithm>

#include "engine/chat_template/parser.hpp"
#include "engine/chat_template/registry.hpp"
#include "engine/chat_template/symbols.hpp"

namespace troupe::engine::jinja {

namespace {

expr_ptr copy_target(const expr& node) {
  auto out = std::make_unique<expr>();
  out->kind = node.kind;
  out->line = node.line;
  out->stored = node.stored;
  out->text = node.text;
  for (const auto& part : node.parts)
    out->parts.push_back(copy_target(*part));
  return out;
}

bool assigns(const expr* node, std::string_view name) {
  if (!node)
    return false;
  if (node->kind == expr_kind::name)
    return node->stored && node->text == name;
  return std::any_of(node->parts.begin(), node->parts.end(),
                     [&](const auto& part) { return assigns(part.get(), name); });
}

/// Whether anything in `body` assigns `name`, in inner scopes too.
bool assigns(const block& body, std::string_view name) {
  return std::any_of(body.begin(), body.end(), [&](const auto& node) {
    return assigns(node->target.get(), name) || assigns(node->body, name) ||
           assigns(node->otherwise, name) ||
           (node->function && assigns(node->function->body, name)) ||
           std::any_of(node->arms.begin(), node->arms.end(),
                       [&](const auto& arm) { return assigns(arm.second, name); });
  });
}

class binder {
public:
  void bind_program(program& tree) {
    symbols root{nullptr};
    root.visit(tree.body);
    tree.variables = root.finish();
    bind(tree.body, root, false);
  }

private:
  /// `soft`: where a filter that does not exist is an error only once it is used.
  void bind(expr* node, const symbols& names, bool soft) {
    if (!node)
      return;
    if (node->kind == expr_kind::name)
      node->slot = names.place(node->text);
    if (node->kind == expr_kind::filter || node->kind == expr_kind::test)
      bind_function(*node, soft);
    soft = soft || node->kind == expr_kind::conditional;
    for (auto& part : node->parts)
      bind(part.get(), names, soft);
    if (!node->arguments)
      return;
    for (auto& x : node->arguments->positional)
      bind(x.get(), names, soft);
    for (auto& [name, x] : node->arguments->named)
      bind(x.get(), names, soft);
    bind(node->arguments->star.get(), names, soft);
    bind(node->arguments->star_star.get(), names, soft);
  }

  static void bind_function(expr& node, bool soft) {
    const bool filter = node.kind == expr_kind::filter;
    node.function = filter ? find_filter(node.text) : find_test(node.text);
    if (!node.function && !soft)
      fail_at(template_errc::syntax, node.line,
              std::string("No ") + (filter ? "filter" : "test") + " named '" + node.text + "'.");
  }

  void bind(block& body, const symbols& names, bool soft) {
    for (auto& node : body)
      bind(*node, names, soft);
  }

  void bind(stmt& node, const symbols& names, bool soft) {
    switch (node.kind) {
    case stmt_kind::loop:
      return bind_loop(node, names, soft);
    case stmt_kind::branch:
      for (auto& [condition, body] : node.arms) {
        bind(condition.get(), names, true);
        bind(body, names, true);
      }
      return bind(node.otherwise, names, true);
    case stmt_kind::macro:
      node.slot = names.place(node.text);
      return bind_function_body(*node.function, names);
    case stmt_kind::call_block:
      bind_function_body(*node.function, names);
      return bind(node.subject.get(), names, soft);
    case stmt_kind::generation:
      return bind_function_body(*node.function, names);
    case stmt_kind::with:
      return bind_with(node, names, soft);
    case stmt_kind::assign_block:
    case stmt_kind::filter_block:
      return bind_captured(node, names, soft);
    default:
      bind(node.subject.get(), names, soft);
      bind(node.target.get(), names, soft);
    }
  }

  /// A block whose output is kept: its filters run in the inner scope.
  void bind_captured(stmt& node, const symbols& names, bool soft) {
    symbols inner{&names};
    inner.visit(node.body);
    inner.visit(node.subject.get());
    node.inner = inner.finish();
    bind(node.body, inner, false);
    bind(node.subject.get(), inner, false);
    bind(node.target.get(), names, soft);
  }

  void bind_with(stmt& node, const symbols& names, bool soft) {
    symbols inner{&names};
    for (const auto& binding : node.bindings)
      inner.visit(binding.first.get(), true);
    inner.visit(node.body);
    node.inner = inner.finish();
    for (auto& [target, subject] : node.bindings) {
      bind(target.get(), inner, soft);
      bind(subject.get(), names, soft);
    }
    bind(node.body, inner, false);
  }

  void bind_loop(stmt& node, const symbols& names, bool soft) {
    if (assigns(node.target.get(), "loop") || assigns(node.body, "loop") ||
        assigns(node.otherwise, "loop"))
      fail_at(template_errc::syntax, node.line,
              "Can't assign to special loop variable in for-loop target");
    bind(node.subject.get(), names, soft);
    symbols inner{&names};
    node.uses_loop = node.recursive || reads_undeclared(node.body, "loop");
    if (node.uses_loop)
      inner.declare_parameter("loop");
    inner.visit(node.target.get(), true);
    inner.visit(node.body);
    node.inner = inner.finish();
    if (node.uses_loop)
      node.loop_slot = inner.place("loop").index;
    bind(node.target.get(), inner, false);
    bind(node.body, inner, false);

    symbols otherwise{&names};
    otherwise.visit(node.otherwise);
    node.inner_else = otherwise.finish();
    bind(node.otherwise, otherwise, false);
    if (!node.condition)
      return;
    node.test_target = copy_target(*node.target);
    symbols test{&names};
    test.visit(node.target.get(), true);
    test.visit(node.condition.get());
    node.inner_test = test.finish();
    bind(node.test_target.get(), test, false);
    bind(node.condition.get(), test, false);
  }

  void bind_function_body(function_body& function, const symbols& names) {
    symbols inner{&names};
    inner.visit(function); // parameters first, so that special names cannot hide them
    bool kwargs = reads_undeclared(function.body, "kwargs");
    bool varargs = reads_undeclared(function.body, "varargs");
    bool caller = reads_undeclared(function.body, "caller");
    for (const auto& parameter : function.parameters) {
      kwargs = kwargs && parameter.name != "kwargs";
      varargs = varargs && parameter.name != "varargs";
      if (parameter.name != "caller")
        continue;
      function.takes_caller = true;
      if (caller && !parameter.fallback)
        fail_at(template_errc::syntax, 0,
                "the special \"caller\" argument must be omitted or be given a default");
      caller = false;
    }
    const auto declare = [&](bool used, const char* name) {
      if (used)
        inner.declare_parameter(name);
    };
    declare(caller, "caller");
    declare(kwargs, "kwargs");
    declare(varargs, "varargs");
    function.variables = inner.finish();
    const auto slot = [&](bool used, const char* name) {
      return used ? static_cast<int32_t>(inner.place(name).index) : -1;
    };
    function.caller_slot = slot(caller, "caller");
    function.kwargs_slot = slot(kwargs, "kwargs");
    function.varargs_slot = slot(varargs, "varargs");
    for (auto& parameter : function.parameters) {
      parameter.slot = inner.place(parameter.name).index;
      bind(parameter.fallback.get(), inner, false);
    }
    bind(function.body, inner, false);
  }
};

} // namespace

void bind(program& tree) { binder{}.bind_program(tree); }

} // namespace troupe::engine::jinja
