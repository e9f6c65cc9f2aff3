// Macros, call blocks and their parameters.
#include <algorithm>

#include "engine/chat_template/runtime.hpp"

namespace troupe::engine::jinja {

namespace {

class macro_object : public callable_object {
public:
  macro_object(const function_body& function, std::string macro_name, environment_ptr scope)
      : function_{function}, scope_{std::move(scope)} {
    name = std::move(macro_name);
  }

  value call(runtime& rt, call_values& arguments) override {
    return rt.call_function(function_, name, scope_, arguments);
  }

  value attribute(runtime&, std::string_view attribute_name) override {
    if (attribute_name == "name")
      return value::string(name);
    if (attribute_name == "catch_kwargs")
      return value::boolean(function_.kwargs_slot >= 0);
    if (attribute_name == "catch_varargs")
      return value::boolean(function_.varargs_slot >= 0);
    if (attribute_name == "caller")
      return value::boolean(function_.caller_slot >= 0);
    if (attribute_name != "arguments")
      return {};
    std::vector<value> names;
    for (const auto& parameter : function_.parameters)
      names.push_back(value::string(parameter.name));
    return value::tuple(std::move(names));
  }

private:
  const function_body& function_;
  environment_ptr scope_;
};

value to_dict(std::vector<std::pair<std::string, value>>&& named) {
  std::vector<std::pair<value, value>> entries;
  for (auto& [name, x] : named)
    entries.emplace_back(value::string(name), std::move(x));
  return make_dict(std::move(entries));
}

} // namespace

value runtime::make_macro(const function_body& function, std::string name,
                          const environment_ptr& scope) {
  charge(4);
  keep(scope);
  return value::of(kind::callable,
                   std::make_shared<macro_object>(function, std::move(name), scope));
}

void runtime::bind_parameters(const function_body& function, const std::string& name,
                              const environment_ptr& scope, call_values& arguments) {
  const size_t count = function.parameters.size();
  const size_t given = std::min(count, arguments.positional.size());
  for (size_t i = 0; i < count; ++i) {
    const auto& parameter = function.parameters[i];
    value& place = scope->slots[parameter.slot];
    place = i < given ? arguments.positional[i] : arguments.take(parameter.name);
  }
  if (function.caller_slot >= 0) {
    value caller = arguments.take("caller");
    if (caller.is_missing() || caller.is(kind::none))
      caller = value::undefined("No caller defined");
    scope->slots[static_cast<size_t>(function.caller_slot)] = std::move(caller);
  }
  if (function.kwargs_slot >= 0)
    scope->slots[static_cast<size_t>(function.kwargs_slot)] = to_dict(std::move(arguments.named));
  else if (!arguments.named.empty())
    fail("macro '" + name + "' takes no keyword argument '" + arguments.named.front().first + "'");
  if (function.varargs_slot >= 0)
    scope->slots[static_cast<size_t>(function.varargs_slot)] =
        value::tuple({arguments.positional.begin() + static_cast<std::ptrdiff_t>(given),
                      arguments.positional.end()});
  else if (arguments.positional.size() > count)
    fail("macro '" + name + "' takes not more than " + std::to_string(count) + " argument(s)");
  for (const auto& parameter : function.parameters) {
    value& place = scope->slots[parameter.slot];
    if (!place.is_missing())
      continue;
    value fallback = parameter.fallback
                         ? evaluate(*parameter.fallback, *scope)
                         : value::undefined("parameter '" + parameter.name + "' was not provided");
    place = std::move(fallback);
  }
}

value runtime::call_function(const function_body& function, const std::string& name,
                             const environment_ptr& parent, call_values& arguments) {
  const nesting guard{*this};
  const auto scope = enter(function.variables, parent);
  bind_parameters(function, name, scope, arguments);
  std::string out;
  execute(function.body, scope, out);
  return text(std::move(out));
}

void runtime::execute_call_block(const stmt& node, const environment_ptr& scope, std::string& out) {
  const nesting guard{*this};
  value caller = make_macro(*node.function, "caller", scope);
  const expr& call_node = *node.subject;
  const value callee = evaluate(*call_node.parts[0], *scope);
  call_values arguments = evaluate_arguments(call_node.arguments.get(), *scope);
  arguments.named.emplace_back("caller", std::move(caller));
  line_ = node.line;
  emit(out, to_text(call(callee, arguments)));
}

} // namespace troupe::engine::jinja
