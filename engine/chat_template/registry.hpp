#pragma once
#include <string_view>

#include "engine/chat_template/ast.hpp"

namespace troupe::engine::jinja {

/// The filter or test of that name; null when there is none. A test's answer is a boolean value
/// or, like Python's operators behind the comparing tests, anything with a truth.
filter_fn find_filter(std::string_view name);
filter_fn find_test(std::string_view name);

struct named_function {
  std::string_view name;
  filter_fn function;
};

/// Parts of the two tables, each sorted into a map once by find_filter and find_test.
std::vector<named_function> text_filters();
std::vector<named_function> number_filters();
std::vector<named_function> list_filters();
std::vector<named_function> select_filters();
std::vector<named_function> all_tests();

} // namespace troupe::engine::jinja
