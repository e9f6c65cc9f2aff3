#include "engine/chat_template/chat_template.hpp"

#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace troupe::engine {
namespace {

using nlohmann::ordered_json;
using testing::HasSubstr;

caf::expected<std::string> render(const std::string& source,
                                  const ordered_json& context = ordered_json::object(),
                                  chat_template_options options = {}) {
  const auto compiled =
      chat_template::compile(source, "model/chat_template.jinja", std::move(options));
  if (!compiled)
    return compiled.error();
  return (*compiled)->render(context);
}

void expect_error(const std::string& source, template_errc code, const std::string& text,
                  const ordered_json& context = ordered_json::object()) {
  const auto got = render(source, context);
  ASSERT_FALSE(got) << source << " rendered " << got->substr(0, 100);
  EXPECT_EQ(got.error(), code) << source << ": " << describe(got.error());
  EXPECT_THAT(describe(got.error()), HasSubstr(text)) << source;
}

TEST(chat_template, an_error_names_the_origin_and_the_line) {
  expect_error(
      "a\n{% if x %}\n{{ x.y.z }}\n{% endif %}", template_errc::runtime,
      "chat template model/chat_template.jinja, line 3: 'dict object' has no attribute 'y'",
      {{"x", {{"a", 1}}}});
  expect_error("a\n\n{% fro x in y %}", template_errc::syntax,
               "line 3: Encountered unknown tag 'fro'.");
  expect_error("{% for x in y %}\n", template_errc::syntax, "'endfor' or 'else'");
  expect_error("{{ 'abc }}", template_errc::syntax, "never closed");
  expect_error("{{ (1] }}", template_errc::syntax, "unexpected ']', expected ')'");
  expect_error("\n{{ x | shout }}", template_errc::syntax, "line 2: No filter named 'shout'");
}

TEST(chat_template, raise_exception_speaks_with_its_own_words) {
  const auto got = render("{{ raise_exception('Roles must ' ~ what) }}", {{"what", "alternate"}});
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error(), template_errc::raised);
  EXPECT_EQ(describe(got.error()), "Roles must alternate");
}

TEST(chat_template, an_undefined_value_prints_nothing_but_cannot_be_used) {
  EXPECT_EQ(render("[{{ x }}{{ y.z }}]", {{"y", ordered_json::object()}}), "[]");
  expect_error("{{ x.y }}", template_errc::runtime, "'x' is undefined");
  expect_error("{{ x + 'a' }}", template_errc::runtime, "'x' is undefined");
  expect_error("{{ x() }}", template_errc::runtime, "'x' is undefined");
}

TEST(chat_template, the_sandbox_forbids_changing_lists_and_dicts) {
  expect_error("{% set l = [] %}{{ l.append(1) }}", template_errc::runtime,
               "access to attribute 'append' of 'list' object is unsafe.");
  expect_error("{{ {}.update(a=1) }}", template_errc::runtime, "'update'");
  expect_error("{{ ''.__class__.__mro__ }}", template_errc::runtime, "'__class__'");
  expect_error("{% set ns = namespace() %}{% set ns._x = 1 %}", template_errc::runtime, "'_x'");
}

TEST(chat_template, other_files_are_refused_by_name) {
  for (const char* tag : {"include 'x'", "import 'x' as y", "from 'x' import y", "extends 'x'",
                          "block a", "autoescape true"})
    expect_error(std::string("{% ") + tag + " %}", template_errc::unsupported, "self-contained");
}

TEST(chat_template, endless_work_ends_in_a_limit) {
  const std::string loops = "{% for a in range(99999) %}{% for b in range(99999) %}"
                            "{% endfor %}{% endfor %}";
  expect_error(loops, template_errc::limit, "steps");
  expect_error("{{ range(100001) }}", template_errc::limit, "MAX_RANGE");
  expect_error("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", template_errc::limit,
               "nested too deep");
  expect_error("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", template_errc::limit,
               "nested too deep");
  expect_error("{{ 'x' * 99999999999 }}", template_errc::limit, "longer than");
  expect_error("{{ [0] * 99999999999 }}", template_errc::limit, "steps");
  expect_error("{{ '%999999999d' % 1 }}", template_errc::limit, "width");
  expect_error("{{ '{:>999999999}'.format(1) }}", template_errc::limit, "width");
  expect_error("{{ 'x'.ljust(999999999999) }}", template_errc::limit, "too long");
  expect_error("{{ 'x' | indent(999999999) }}", template_errc::limit, "too large");
}

TEST(chat_template, values_that_grow_by_themselves_end_in_a_limit) {
  const auto repeat = [](const std::string& step, const std::string& show) {
    return "{% set ns = namespace(x='ab', l=[1], g=[1], n=none) %}{% for i in range(50000) %}" +
           step + "{% endfor %}" + show;
  };
  expect_error(repeat("{% set ns.x = ns.x ~ ns.x %}", ""), template_errc::limit, "longer than");
  expect_error(repeat("{% set ns.x = ns.x | replace('a', 'aaaa') %}", ""), template_errc::limit,
               "too l");
  expect_error(repeat("{% set ns.l = [ns.l] %}", ""), template_errc::limit, "deep");
  expect_error(repeat("{% set ns.l = [ns.l, ns.l] %}", ""), template_errc::limit, "too large");
  expect_error(repeat("{% set ns.g = ns.g | map('string') %}", "{{ ns.g | list }}"),
               template_errc::limit, "deep");
}

TEST(chat_template, values_that_hold_themselves_are_freed_and_printed) {
  EXPECT_EQ(render("{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}"),
            "<Namespace {'me': <Namespace {...}>}>");
  EXPECT_EQ(render("{% set top = namespace(n=none) %}{% for i in range(100000) %}"
                   "{% set n = namespace(before=top.n) %}{% set top.n = n %}{% endfor %}ok"),
            "ok"); // a chain this long must not be destroyed by recursion
  EXPECT_EQ(render("{% set ns = namespace(m=none) %}{% macro make(g) %}{% macro inner() %}{{ g }}"
                   "{% endmacro %}{% set ns.m = inner %}{% endmacro %}"
                   "{% for i in range(20000) %}{{ make(ns.m) }}{% endfor %}ok"),
            "ok");
}

TEST(chat_template, deep_sources_are_refused) {
  const auto times = [](const std::string& what, int n) {
    std::string out;
    for (int i = 0; i < n; ++i)
      out += what;
    return out;
  };
  const int n = 20000;
  expect_error("{{ " + times("(", n) + "1" + times(")", n) + " }}", template_errc::limit, "nested");
  expect_error("{{ " + times("not ", n) + "1 }}", template_errc::limit, "nested");
  expect_error("{{ " + times("-", n) + "1 }}", template_errc::limit, "nested");
  expect_error("{{ 1" + times(" if 1 else 1", n) + " }}", template_errc::limit, "nested");
  expect_error("{{ 1" + times("+1", n) + " }}", template_errc::limit, "too long");
  expect_error("{{ a" + times(".b", n) + " }}", template_errc::limit, "too long");
  expect_error("{{ a" + times("|trim", n) + " }}", template_errc::limit, "too long");
  expect_error(times("{% if 1 %}", n), template_errc::limit, "nested");
  expect_error(std::string(2 << 20, 'x'), template_errc::limit, "bytes");
  EXPECT_TRUE(render("{% if 0 %}" + times("{% elif 0 %}", n) + "{% endif %}"));
  ordered_json deep = 1;
  for (int i = 0; i < 5000; ++i)
    deep = ordered_json::array({std::move(deep)});
  expect_error("{{ x }}", template_errc::limit, "deep", {{"x", deep}});
}

TEST(chat_template, text_that_is_not_utf8_is_refused) {
  expect_error("\xff", template_errc::syntax, "UTF-8");
  expect_error("{{ '\\ud83d' }}", template_errc::runtime, "surrogate");
}

TEST(chat_template, numbers_beyond_64_bits_are_refused) {
  expect_error("{{ 9223372036854775807 + 1 }}", template_errc::runtime, "64 bits");
  expect_error("{{ 99999999999999999999 }}", template_errc::syntax, "64 bits");
  EXPECT_EQ(render("{{ 9223372036854775807 }} {{ x }}", {{"x", INT64_MIN}}),
            "9223372036854775807 -9223372036854775808");
}

TEST(chat_template, the_clock_is_the_callers) {
  chat_template_options options;
  options.now = [] { return std::time_t{86400 * 365}; };
  EXPECT_EQ(render("{{ strftime_now('%Y') }}", ordered_json::object(), options), "1971");
  expect_error("{{ strftime_now(1) }}", template_errc::runtime, "must be str");
  EXPECT_TRUE(render("{{ strftime_now('') }}"));
}

TEST(chat_template, variables_come_before_functions_of_the_same_name) {
  EXPECT_EQ(render("{{ range }}{{ namespace }}", {{"range", "far"}, {"namespace", 7}}), "far7");
}

TEST(chat_template, the_context_must_be_an_object) {
  const auto got = render("x", ordered_json::array());
  ASSERT_FALSE(got);
  EXPECT_THAT(describe(got.error()), HasSubstr("must be a JSON object"));
}

TEST(chat_template, a_set_block_hides_the_variable_that_it_assigns) {
  // Jinja decides at compile time that x is a variable of the template, not yet set in its own
  // block.
  EXPECT_EQ(render("{% set x %}[{{ x }}]{% endset %}{{ x }}", {{"x", 1}}), "[]");
  EXPECT_EQ(render("{{ x }}{% set x %}[{{ x }}]{% endset %}{{ x }}", {{"x", 1}}), "1[1]");
  EXPECT_EQ(render("{% for i in [1] %}{{ x }}{% endfor %}{% set x = 2 %}{{ x }}", {{"x", 1}}), "2");
}

TEST(chat_template, threads_share_one_compiled_template) {
  const auto compiled = chat_template::compile(
      "{% macro m(x) %}<{{ x.role }}>{% endmacro %}{% set ns = namespace(n=0) %}"
      "{% for x in messages %}{{ m(x) }}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
      "t");
  ASSERT_TRUE(compiled);
  std::vector<std::thread> threads;
  std::vector<int> wrong(4);
  for (size_t t = 0; t < wrong.size(); ++t)
    threads.emplace_back([&, t] {
      const ordered_json context = {{"messages", {{{"role", std::to_string(t)}}}}};
      for (int i = 0; i < 200; ++i)
        wrong[t] += (*compiled)->render(context) != "<" + std::to_string(t) + ">1";
    });
  for (auto& thread : threads)
    thread.join();
  EXPECT_EQ(wrong, std::vector<int>(wrong.size()));
}

} // namespace
} // namespace troupe::engine
