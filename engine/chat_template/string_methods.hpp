#pragma once
#include <optional>
#include <string_view>
#include <vector>

#include "engine/chat_template/runtime.hpp"

namespace troupe::engine::jinja {

using string_method = value (*)(runtime&, const value& self, call_values&);

struct named_method {
  std::string_view name;
  string_method function;
};

/// Parts of the table of str's methods.
std::vector<named_method> case_methods();
std::vector<named_method> search_methods();
std::vector<named_method> split_methods();

/// Python's str.splitlines and str.split() on white space.
std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends);
std::vector<std::string_view> split_words(std::string_view text, int64_t splits_max);
/// str.replace; a negative count replaces all.
value replace_text(runtime& rt, const std::string& text, const std::string& from,
                   const std::string& to, int64_t count);
/// separator.join(items), each item as `convert` makes it.
value join_text(runtime& rt, std::string_view separator, const value& items, bool strict);
/// text padded to `width` code points, the way str.center and the others do it.
enum class alignment : uint8_t { left, right, center };
value pad_text(runtime& rt, const std::string& text, int64_t width, std::string_view fill,
               alignment how);

} // namespace troupe::engine::jinja
