// What the configuration file may hold, and what is said about the rest.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "config/keys.hpp"
#include "config/layers.hpp"

namespace troupe::config {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::IsEmpty;

layers read(const std::string& text) {
  layers result;
  result.file(text, "t.yaml", "/etc/troupe");
  return result;
}

std::string complaints(const std::string& text) {
  auto result = read(text);
  result.check();
  std::string all;
  for (const auto& one : result.problems())
    all += to_string(one) + "\n";
  return all;
}

TEST(config_file, may_be_empty_or_hold_only_comments) {
  for (const char* text :
       {"", "\n\n", "# nothing\n", "---\n", "engine:\nlog:\nmodels:\nmodel_dirs:\n"})
    EXPECT_EQ(complaints(text), "") << text;
}

TEST(config_file, sets_what_it_names) {
  const auto result =
      read("listen: 0.0.0.0:80\nmemory_limit: 24GiB\nkeep_alive: -1\nhub_cache: false\n"
           "engine:\n  kv_memory: 1GiB\n  context_max: 4096\nmodel_dirs: [models, /m, ~/x]\n");
  EXPECT_THAT(result.problems(), IsEmpty());
  const auto& v = result.values();
  EXPECT_EQ(v.listen, (host_port{"0.0.0.0", 80}));
  EXPECT_EQ(v.memory_limit.bytes, 24ull << 30);
  EXPECT_EQ(v.keep_alive, -1ms);
  EXPECT_EQ(v.hub_cache, "off");
  EXPECT_EQ(v.engine.kv_memory, (memory_amount{1ull << 30, 0}));
  EXPECT_EQ(v.engine.context_max, 4096u);
  ASSERT_EQ(v.model_dirs.size(), 3u);
  EXPECT_EQ(v.model_dirs[0], "/etc/troupe/models") << "relative paths count from the file";
  EXPECT_EQ(v.model_dirs[1], "/m");
  EXPECT_EQ(v.model_dirs[2], expand_home("~/x"));
  EXPECT_EQ(result.origin("engine.kv_memory"), "t.yaml:6:3");
  EXPECT_EQ(result.origin("threads"), "default");
}

TEST(config_file, names_line_column_and_fix_of_an_unknown_key) {
  EXPECT_EQ(complaints("listen: :80\nkeep-alive: 5m\n"),
            "t.yaml:2:1: unknown key 'keep-alive': did you mean 'keep_alive'?\n");
  EXPECT_EQ(complaints("engine:\n    kv_memroy: 1GiB\n"),
            "t.yaml:2:5: unknown key 'engine.kv_memroy': did you mean 'engine.kv_memory'?\n");
  EXPECT_EQ(complaints("kv_memory: 1GiB\n"),
            "t.yaml:1:1: unknown key 'kv_memory': did you mean 'engine.kv_memory'?\n");
  EXPECT_THAT(complaints("colour: red\n"),
              HasSubstr("t.yaml:1:1: unknown key 'colour': `troupe config schema`"));
}

TEST(config_file, names_line_column_and_fix_of_a_wrong_value) {
  EXPECT_EQ(complaints("threads: many\n"),
            "t.yaml:1:10: threads: 'many' is not a whole number from 0 to 4096\n");
  EXPECT_EQ(complaints("threads: 5000\n"),
            "t.yaml:1:10: threads: '5000' is out of range: 0 to 4096\n");
  EXPECT_EQ(complaints("admin: yes\n"), "t.yaml:1:8: admin: 'yes' must be written true\n");
  EXPECT_EQ(complaints("role: haed\n"), "t.yaml:1:7: role: 'haed' is not known here: write all, "
                                        "head or worker (did you mean head?)\n");
  EXPECT_THAT(complaints("engine:\n  swap_memory: 99999999999999999999GiB\n"),
              HasSubstr("t.yaml:2:16: engine.swap_memory: '99999999999999999999GiB' is too large"));
  EXPECT_THAT(complaints("limits: {body: 1B}\n"),
              HasSubstr("t.yaml:1:16: limits.body: '1B' is too small: at least 1KiB"));
  EXPECT_THAT(complaints("threads: \"4\"\n"), HasSubstr("write 4 without quotes"));
  EXPECT_THAT(complaints("threads:\n"), HasSubstr("'threads' has no value"));
}

TEST(config_file, names_what_stands_where_something_else_belongs) {
  EXPECT_THAT(complaints("engine: 5\n"), HasSubstr("t.yaml:1:9: 'engine' is a section"));
  EXPECT_THAT(complaints("listen: [a]\n"),
              HasSubstr("t.yaml:1:9: 'listen' takes a single value, but here is a list"));
  EXPECT_THAT(complaints("model_dirs: /m\n"), HasSubstr("'model_dirs' is a list: write [/m]"));
  EXPECT_THAT(complaints("model_dirs: [a, {b: c}]\n"), HasSubstr("t.yaml:1:17:"));
  EXPECT_THAT(complaints("- a\n"), HasSubstr("must consist of 'key: value' lines"));
  EXPECT_THAT(complaints("models: [a]\n"), HasSubstr("list directories under 'model_dirs'"));
}

TEST(config_file, reports_every_problem_in_file_order_and_keeps_the_good_values) {
  const auto result = read("threads: x\nadmin: false\nrole: y\n");
  ASSERT_EQ(result.problems().size(), 2u);
  EXPECT_EQ(result.problems()[0].where, "t.yaml:1:10");
  EXPECT_EQ(result.problems()[1].where, "t.yaml:3:7");
  EXPECT_FALSE(result.values().admin);
}

TEST(config_file, refuses_a_key_that_is_set_twice) {
  EXPECT_EQ(complaints("threads: 1\nadmin: true\nthreads: 2\n"),
            "t.yaml:3:1: 'threads' is set twice: the first is in line 1, keep one of the two\n");
  EXPECT_THAT(complaints("engine:\n  block_size: 1\n  block_size: 1\n"),
              HasSubstr("t.yaml:3:3: 'block_size' is set twice"));
}

TEST(config_file, explains_tabs) {
  EXPECT_EQ(complaints("engine:\n\tblock_size: 8\n"),
            "t.yaml:2:1: a tab indents this line: YAML wants spaces\n");
  EXPECT_EQ(complaints("threads:\t2\n"), "") << "a tab between key and value is fine";
}

TEST(config_file, takes_aliases_but_no_cycles_and_no_bombs) {
  EXPECT_EQ(complaints("models:\n  a: &x {pinned: true}\n  b: *x\n"), "");
  EXPECT_THAT(complaints("models: &x\n  a: *x\n"), HasSubstr("contains itself"));
  EXPECT_THAT(complaints("threads: *none\n"), HasSubstr("t.yaml:1:"));
  EXPECT_THAT(complaints("<<: {threads: 1}\n"), HasSubstr("merge keys (<<) are not supported"));
  std::string many = "model_dirs: &l0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 30; ++i) // 10^30 leaves if it were expanded
    many += "k" + std::to_string(i) + ": &l" + std::to_string(i) + " [*l" + std::to_string(i - 1) +
            ", *l" + std::to_string(i - 1) + "]\n";
  EXPECT_THAT(complaints(many), HasSubstr("unknown key 'k1'"));
}

TEST(config_file, is_not_expanded_beyond_a_bound) {
  std::string text = "models:\n  a: &a {aliases: [";
  for (int i = 0; i < 1000; ++i)
    text += "n" + std::to_string(i) + ", ";
  text += "z]}\n";
  for (int i = 0; i < 200; ++i)
    text += "  b" + std::to_string(i) + ": *a\n";
  EXPECT_THAT(complaints(text), HasSubstr("aliases make this file too large"));
}

TEST(config_file, that_is_no_yaml_or_too_odd_is_refused_with_a_place) {
  EXPECT_THAT(complaints("listen: [1, 2\nthreads: 1\n"), HasSubstr("not valid YAML"));
  EXPECT_THAT(complaints("listen: 'abc': x\n"), HasSubstr("not valid YAML"));
  EXPECT_THAT(complaints(std::string("a: \0b\n", 6)), HasSubstr("zero bytes"));
  EXPECT_THAT(complaints("threads: !!int 5\n"),
              HasSubstr("t.yaml:1:10: YAML tags are not used here"));
  EXPECT_THAT(complaints("threads: 1\n---\nthreads: 2\n"), HasSubstr("second YAML document"));
  EXPECT_THAT(complaints("? [a, b]\n: 1\n"), HasSubstr("key must be a plain name"));
  EXPECT_THAT(complaints(std::string(100'000, '[')), HasSubstr("t.yaml:1:"));
  EXPECT_THAT(complaints(std::string((1 << 20) + 1, '#')), HasSubstr("larger than 1 MiB"));
}

TEST(config_file, keeps_model_settings_in_order_and_the_exact_name_wins) {
  const auto result =
      read("models:\n  phi: {keep_alive: 0}\n  \"*\": {keep_alive: 1m, context_max: 512}\n"
           "  \"ph*\": {keep_alive: 2m, kv_memory: 64MiB}\n");
  EXPECT_THAT(result.problems(), IsEmpty());
  const auto phi = settings_for(result.values(), "phi");
  EXPECT_EQ(phi.keep_alive, 0ms);
  EXPECT_EQ(phi.context_max, 512u);
  EXPECT_EQ(phi.kv_bytes, 64ull << 20);
  EXPECT_FALSE(phi.pinned.has_value());
  EXPECT_EQ(settings_for(result.values(), "phi-3").keep_alive, 2min);
  EXPECT_EQ(settings_for(result.values(), "qwen").keep_alive, 1min);
}

TEST(config_file, refuses_aliases_that_cannot_be_unique) {
  EXPECT_THAT(complaints("models:\n  \"q*\": {aliases: [x]}\n"),
              HasSubstr("t.yaml:2:10: 'q*' may match several"));
  EXPECT_THAT(complaints("models:\n  a: {aliases: [x]}\n  b: {aliases: [x]}\n"),
              HasSubstr("t.yaml:3:7: 'x' is already a name of 'a'"));
  EXPECT_THAT(complaints("models:\n  a: {pined: true}\n"), HasSubstr("did you mean 'pinned'?"));
}

} // namespace
} // namespace troupe::config
