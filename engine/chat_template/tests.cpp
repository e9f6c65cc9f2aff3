// What may stand behind "is".
#include "engine/chat_template/filters.hpp"
#include "engine/chat_template/operators.hpp"

namespace troupe::engine::jinja {

namespace {

template <kind Type>
value has_type(runtime&, const value& x, call_values& arguments) {
  bind_arguments(arguments, "test", {});
  return value::boolean(x.is(Type));
}

template <bool (*Check)(const value&)>
value holds(runtime&, const value& x, call_values& arguments) {
  bind_arguments(arguments, "test", {});
  return value::boolean(Check(x));
}

bool is_defined(const value& x) { return !x.is(kind::undefined); }
bool is_number(const value& x) { return x.is_number(); }
bool is_true(const value& x) { return x.is(kind::boolean) && x.as_bool(); }
bool is_false(const value& x) { return x.is(kind::boolean) && !x.as_bool(); }
bool is_callable(const value& x) { return x.is(kind::callable) || x.is(kind::undefined); }
bool is_escaped(const value& x) { return x.is(kind::string) && x.as<string_object>().markup; }

/// Has a length and can be indexed: dicts too, views and generators not.
bool is_sequence(const value& x) {
  return x.is(kind::string) || x.is(kind::dict) || x.is(kind::undefined) ||
         (x.is(kind::sequence) && !x.is(flavor::keys) && !x.is(flavor::values) &&
          !x.is(flavor::items));
}

value modulo(runtime& rt, const value& x, int64_t by) {
  return arithmetic(rt, expr_kind::mod, x, value::integer(by));
}

template <int64_t Rest>
value parity(runtime& rt, const value& x, call_values& arguments) {
  bind_arguments(arguments, "test", {});
  return value::boolean(equal(modulo(rt, x, 2), value::integer(Rest)));
}

value divisible(runtime& rt, const value& x, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "divisibleby", {"num"}, 1);
  return value::boolean(equal(arithmetic(rt, expr_kind::mod, x, bound[0]), value::integer(0)));
}

template <compare_op Op>
value compares(runtime& rt, const value& x, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "test", {"other"}, 1, false);
  return compare(rt, Op, x, bound[0]);
}

value is_in(runtime& rt, const value& x, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "in", {"seq"}, 1);
  return compare(rt, compare_op::in, x, bound[0]);
}

value is_same(runtime&, const value& x, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "sameas", {"other"}, 1);
  const value& other = bound[0];
  if (x.type() != other.type())
    return value::boolean(false);
  if (x.held() || other.held())
    return value::boolean(x.held() == other.held() || (x.is(kind::string) && equal(x, other)));
  return value::boolean(equal(x, other));
}

template <bool Upper>
value has_case(runtime& rt, const value& x, call_values& arguments) {
  bind_arguments(arguments, "test", {});
  call_values nothing;
  const value text = value::string(as_text(rt, x));
  return rt.call(string_attribute(text, Upper ? "isupper" : "islower"), nothing);
}

template <filter_fn (*Find)(std::string_view)>
value exists(runtime&, const value& x, call_values& arguments) {
  bind_arguments(arguments, "test", {});
  hash_of(x); // refuses what cannot be a key, as the look-up does in Python
  return value::boolean(x.is(kind::string) && Find(x.text()));
}

} // namespace

std::vector<named_function> all_tests() {
  return {{"defined", holds<is_defined>},
          {"undefined", has_type<kind::undefined>},
          {"none", has_type<kind::none>},
          {"boolean", has_type<kind::boolean>},
          {"true", holds<is_true>},
          {"false", holds<is_false>},
          {"integer", has_type<kind::integer>},
          {"float", has_type<kind::real>},
          {"number", holds<is_number>},
          {"string", has_type<kind::string>},
          {"mapping", has_type<kind::dict>},
          {"sequence", holds<is_sequence>},
          {"iterable", holds<is_iterable>},
          {"callable", holds<is_callable>},
          {"escaped", holds<is_escaped>},
          {"sameas", is_same},
          {"odd", parity<1>},
          {"even", parity<0>},
          {"divisibleby", divisible},
          {"lower", has_case<false>},
          {"upper", has_case<true>},
          {"filter", exists<find_filter>},
          {"test", exists<find_test>},
          {"in", is_in},
          {"==", compares<compare_op::eq>},
          {"eq", compares<compare_op::eq>},
          {"equalto", compares<compare_op::eq>},
          {"!=", compares<compare_op::ne>},
          {"ne", compares<compare_op::ne>},
          {">", compares<compare_op::gt>},
          {"gt", compares<compare_op::gt>},
          {"greaterthan", compares<compare_op::gt>},
          {">=", compares<compare_op::ge>},
          {"ge", compares<compare_op::ge>},
          {"<", compares<compare_op::lt>},
          {"lt", compares<compare_op::lt>},
          {"lessthan", compares<compare_op::lt>},
          {"<=", compares<compare_op::le>},
          {"le", compares<compare_op::le>}};
}

} // namespace troupe::engine::jinja
