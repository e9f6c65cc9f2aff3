#pragma once
#include <array>
#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/chat_template/ast.hpp"
#include "engine/chat_template/value.hpp"

namespace troupe::engine::jinja {

/// What a rendering may use up. A template comes with a model, and models come from strangers.
struct limits {
  uint64_t steps_max = 50'000'000;
  uint64_t output_bytes_max = 64u << 20;
  uint32_t depth_max = 1200;
  int64_t range_max = 100'000;
};

/// Variables of one scope while it runs.
struct environment {
  std::shared_ptr<environment> parent;
  std::vector<value> slots;
};
using environment_ptr = std::shared_ptr<environment>;

enum class flow : uint8_t { normal, stop, next };

/// Arguments of a built-in function sorted to its parameters; absent ones are missing.
using bound_arguments = std::array<value, 6>;

/// Renders one template once. Not shared between threads; the program and the context are only
/// read.
class runtime {
public:
  runtime(const limits& allowed, std::function<std::time_t()> now, value context);
  ~runtime();
  runtime(const runtime&) = delete;
  runtime& operator=(const runtime&) = delete;

  std::string render(const program& tree);
  uint32_t line() const { return line_; }
  const limits& allowed() const { return allowed_; }
  std::time_t now() const { return now_(); }

  /// Pays for `steps` units of work; throws once the budget is gone.
  void charge(uint64_t steps) {
    if (steps > steps_left_)
      out_of_steps();
    steps_left_ -= steps;
  }
  /// A new string, paid for by its length.
  value text(std::string made, bool markup = false);
  value list(std::vector<value> items);

  /// obj.name and obj[key] by the rules of Jinja's sandbox: undefined when there is none.
  value attribute(const value& of, const value& name);
  value item(const value& of, const value& key);
  /// As `attribute` for methods and built-in attributes alone: missing when there is none.
  value python_attribute(const value& of, std::string_view name);
  value call(const value& callee, call_values& arguments);
  value call_filter(const value& name, const value& subject, call_values& arguments);
  value call_test(const value& name, const value& subject, call_values& arguments);
  /// A mutable namespace; it lives until the rendering ends.
  value make_space(dict_object attributes);
  void keep(object_ptr held) { kept_.push_back(std::move(held)); }
  void keep(environment_ptr held) { captured_.push_back(std::move(held)); }

  value evaluate(const expr& node, environment& scope);
  flow execute(const block& body, const environment_ptr& scope, std::string& out);
  /// Runs a macro's body with its parameters bound.
  value call_function(const function_body& function, const std::string& name,
                      const environment_ptr& parent, call_values& arguments);
  /// Runs a loop over `source`, as a statement or, for loop(...), once more inside itself.
  flow run_loop(const stmt& node, const value& source, const environment_ptr& scope, int64_t depth,
                std::string& out);
  environment_ptr enter(const scope& variables, const environment_ptr& parent);
  void assign(const expr& target, value x, environment& scope);

  /// Bounds recursion of every kind: expressions, macros, loops, generators over generators.
  class nesting {
  public:
    explicit nesting(runtime& rt) : rt_{rt} {
      if (++rt_.depth_ > rt_.allowed_.depth_max)
        rt_.too_deep();
    }
    ~nesting() { --rt_.depth_; }

  private:
    runtime& rt_;
  };

private:
  [[noreturn]] void out_of_steps() const;
  [[noreturn]] void too_deep();
  void emit(std::string& out, std::string_view text);
  void fill(environment& made, const scope& variables);
  value resolve(const std::string& name) const;
  value& slot(environment& scope, const slot_ref& where) const;

  value evaluate_unguarded(const expr& node, environment& scope);
  value evaluate_name(const expr& node, environment& scope);
  value evaluate_item(const expr& node, environment& scope);
  value evaluate_call(const expr& node, environment& scope);
  value evaluate_function(const expr& node, environment& scope, const value& subject);
  value evaluate_compare(const expr& node, environment& scope);
  value evaluate_concat(const expr& node, environment& scope);
  value evaluate_collection(const expr& node, environment& scope);
  value evaluate_arithmetic(const expr& node, environment& scope);
  value apply_filters(const expr& node, environment& scope, const value& subject);
  call_values evaluate_arguments(const call_arguments* arguments, environment& scope);

  flow execute(const stmt& node, const environment_ptr& scope, std::string& out);
  flow execute_branch(const stmt& node, const environment_ptr& scope, std::string& out);
  flow execute_captured(const stmt& node, const environment_ptr& scope, std::string& out);
  flow execute_with(const stmt& node, const environment_ptr& scope, std::string& out);
  void execute_call_block(const stmt& node, const environment_ptr& scope, std::string& out);
  value loop_source(const stmt& node, const value& source, const environment_ptr& scope);
  value make_macro(const function_body& function, std::string name, const environment_ptr& scope);
  void bind_parameters(const function_body& function, const std::string& name,
                       const environment_ptr& scope, call_values& arguments);

  limits allowed_;
  std::function<std::time_t()> now_;
  value context_;
  uint64_t steps_left_;
  uint32_t depth_ = 0;
  uint32_t line_ = 1;
  // Namespaces and captured scopes can hold themselves; emptied one by one at the end.
  std::vector<object_ptr> kept_;
  std::vector<environment_ptr> captured_;
};

/// Walks what Python's iter() would accept; a TypeError for anything else.
class cursor {
public:
  cursor(runtime& rt, value source);
  std::optional<value> next();

private:
  runtime* rt_;
  value source_;
  size_t at_ = 0;
};

/// The items of `source`, as list(source) has them.
std::vector<value> collect(runtime& rt, const value& source);
bool is_iterable(const value& x);
/// len(x), a TypeError when it has none.
int64_t length_of(const value& x);

/// Sorts `given` to the parameter `names`, of which the first `required` must be there.
bound_arguments bind_arguments(call_values& given, std::string_view function,
                               std::initializer_list<std::string_view> names, size_t required = 0,
                               bool by_name = true);
/// Arguments as Python types; each a TypeError naming `what` when it is another.
int64_t to_integer(const value& x, std::string_view what);
const std::string& to_string_argument(const value& x, std::string_view what);

/// The functions every template can call: range, namespace, raise_exception ...
const std::unordered_map<std::string, value>& globals();

/// A method or attribute of a built-in type, bound to `of`; missing when there is none.
value string_attribute(const value& of, std::string_view name);
value container_attribute(const value& of, std::string_view name);
/// Names of attributes that exist in Python but that the sandbox hides.
bool is_hidden_attribute(const value& of, std::string_view name);

} // namespace troupe::engine::jinja
