#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/chat_template/value.hpp"

namespace troupe::engine::jinja {

struct expr;
using expr_ptr = std::unique_ptr<expr>;

/// Where a variable lives: `hops` scopes out, at `index` there.
struct slot_ref {
  uint32_t hops = 0;
  uint32_t index = 0;
};

enum class expr_kind : uint8_t {
  constant,
  name,
  list,
  tuple,
  dict,
  attribute,
  item,
  slice,
  call,
  filter,
  test,
  concat,
  compare,
  conditional,
  logical_and,
  logical_or,
  logical_not,
  negate,
  plus,
  add,
  sub,
  mul,
  div,
  floordiv,
  mod,
  pow,
  space_attribute, ///< ns.x as the target of an assignment
};

enum class compare_op : uint8_t { eq, ne, lt, le, gt, ge, in, not_in };

struct call_arguments {
  std::vector<expr_ptr> positional;
  std::vector<std::pair<std::string, expr_ptr>> named;
  expr_ptr star;
  expr_ptr star_star;
};

using filter_fn = value (*)(runtime&, const value&, call_values&);

/// One expression. Which members are used depends on `kind`:
/// operands are `parts` in reading order (null for an absent slice bound or else branch); names,
/// attributes, filters and tests are `text`; a dict's parts alternate keys and values.
struct expr {
  expr_kind kind;
  uint32_t line;
  uint32_t depth = 1;
  bool stored = false; ///< a name that is assigned, not read
  std::string text;
  value constant;
  std::vector<expr_ptr> parts;
  std::vector<compare_op> compares;
  std::unique_ptr<call_arguments> arguments;
  slot_ref slot;
  filter_fn function = nullptr; ///< of a filter or test; null when there is none of that name
};

enum class load_kind : uint8_t { parameter, resolve, alias, undefined };

/// One variable of a scope and where its value comes from when the scope is entered.
struct variable {
  std::string name;
  load_kind load = load_kind::undefined;
  slot_ref outer; ///< of an alias
};

/// The variables of one lexical scope, as Jinja's compiler would have laid them out.
struct scope {
  std::vector<variable> variables;
};

enum class stmt_kind : uint8_t {
  text,
  print,
  assign,
  assign_block,
  branch,
  loop,
  macro,
  call_block,
  filter_block,
  with,
  generation,
  stop,
  next,
};

struct stmt;
using stmt_ptr = std::unique_ptr<stmt>;
using block = std::vector<stmt_ptr>;

struct parameter {
  std::string name;
  expr_ptr fallback; ///< null when the parameter has no default
  uint32_t slot = 0;
};

/// The part of a macro, call block or generation block that is a function.
struct function_body {
  std::vector<parameter> parameters;
  block body;
  scope variables;
  int32_t caller_slot = -1; ///< -1 when the body does not use it
  int32_t kwargs_slot = -1;
  int32_t varargs_slot = -1;
  bool takes_caller = false; ///< "caller" is an explicit parameter
};

/// One statement. Which members are used depends on `kind`.
struct stmt {
  stmt_kind kind;
  uint32_t line;
  std::string text;   ///< template text, or the name of a macro
  expr_ptr target;    ///< assign, assign_block, loop
  expr_ptr subject;   ///< what is printed, assigned, looped over, called or filtered
  expr_ptr condition; ///< of a loop; a branch keeps its own in `arms`
  bool recursive = false;
  bool uses_loop = false;
  block body;
  block otherwise;
  std::vector<std::pair<expr_ptr, block>> arms;        ///< if and elif
  std::vector<std::pair<expr_ptr, expr_ptr>> bindings; ///< of with
  scope inner;                                         ///< of body
  scope inner_else;                                    ///< of a loop's else
  scope inner_test;                                    ///< of a loop's condition
  expr_ptr test_target; ///< the loop's target again, bound in inner_test
  slot_ref slot;        ///< where a macro's name is stored
  uint32_t loop_slot = 0;
  std::unique_ptr<function_body> function;
};

/// A parsed template.
struct program {
  block body;
  scope variables;
};

} // namespace troupe::engine::jinja
