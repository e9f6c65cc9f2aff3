#include <gtest/gtest.h>

#include <algorithm>

#include <CLI/CLI.hpp>

#include "cli/bench/bench.hpp"
#include "cli/bench/shapes.hpp"
#include "cli/bench/subject.hpp"
#include "cli/command_line.hpp"
#include "cli/exit_codes.hpp"
#include "engine/model/weights.hpp"

namespace troupe::cli {
namespace {

/// What `troupe bench` understands of some words; throws CLI::ParseError like the program's parser.
bench::options parsed(std::vector<std::string> words) {
  command_line typed;
  const auto app = make_app(typed);
  words.insert(words.begin(), "bench");
  std::reverse(words.begin(), words.end()); // CLI11 takes them from the back
  app->parse(words);
  EXPECT_EQ(typed.command, "bench");
  return typed.bench;
}

TEST(bench_options, without_words_prefill_and_decode_are_measured) {
  const auto given = parsed({});
  EXPECT_TRUE(given.models.empty());
  EXPECT_EQ(given.measures, (std::vector<std::string>{"prefill", "decode"}));
  EXPECT_EQ(given.batches, (std::vector<uint32_t>{1, 8, 32}));
  EXPECT_EQ(given.reps, 5u);
  EXPECT_EQ(given.output, "table");
  EXPECT_FALSE(given.profile);
  EXPECT_EQ(given.products, "invariant");
  EXPECT_EQ(parsed({"--products", "fastest"}).products, "fastest");
  EXPECT_THROW(parsed({"--products", "quickest"}), CLI::ParseError);
  EXPECT_TRUE(given.ceilings);
  EXPECT_FALSE(parsed({"--no-ceilings"}).ceilings);
}

TEST(bench_options, lists_are_behind_commas) {
  const auto given = parsed({"tiny", "qwen2.5-0.5b", "--batch", "2,3", "--dtype", "int8,int4",
                             "--measure", "decode", "--context", "64", "--prompt", "7,9"});
  EXPECT_EQ(given.models, (std::vector<std::string>{"tiny", "qwen2.5-0.5b"}));
  EXPECT_EQ(given.batches, (std::vector<uint32_t>{2, 3}));
  EXPECT_EQ(given.dtypes, (std::vector<std::string>{"int8", "int4"}));
  EXPECT_EQ(given.measures, (std::vector<std::string>{"decode"}));
  EXPECT_EQ(given.contexts, (std::vector<uint32_t>{64}));
  EXPECT_EQ(given.prompts, (std::vector<uint32_t>{7, 9}));
}

TEST(bench_options, a_list_ends_where_its_word_does) {
  const auto given = parsed({"--batch", "4", "tiny", "--dtype", "int8", "smollm2-135m"});
  EXPECT_EQ(given.batches, (std::vector<uint32_t>{4}));
  EXPECT_EQ(given.models, (std::vector<std::string>{"tiny", "smollm2-135m"}));
}

TEST(command_line, a_setting_leaves_the_models_behind_it_alone) {
  command_line typed;
  const auto app = make_app(typed);
  app->parse("serve --log-level warn first --models-dir here second", false);
  EXPECT_EQ(typed.serve.models, (std::vector<std::string>{"first", "second"}));
  ASSERT_EQ(typed.settings.size(), 2u);
  EXPECT_EQ(typed.settings[0].texts, (std::vector<std::string>{"here"}));
  EXPECT_EQ(typed.settings[1].texts, (std::vector<std::string>{"warn"}));
}

TEST(bench_options, what_makes_no_sense_is_refused) {
  EXPECT_THROW(parsed({"--batch", "0"}), CLI::ParseError);
  EXPECT_THROW(parsed({"--batch", "8,x"}), CLI::ParseError);
  EXPECT_THROW(parsed({"--dtype", "int5"}), CLI::ParseError);
  EXPECT_THROW(parsed({"--measure", "speed"}), CLI::ParseError);
  EXPECT_THROW(parsed({"--reps", "0"}), CLI::ParseError);
  EXPECT_THROW(parsed({"--output", "xml"}), CLI::ParseError);
  EXPECT_THROW(parsed({"--scratch", "no/such/folder"}), CLI::ParseError);
}

TEST(bench_options, every_shape_is_a_model_that_the_engine_knows) {
  for (const auto& one : bench::all_shapes())
    for (const auto type : {dtype::bf16, dtype::f16, dtype::f32}) {
      const auto config = engine::parse_model_config(bench::config_json(one, type), one.name);
      ASSERT_TRUE(config) << one.name << ": " << describe(config.error());
      EXPECT_EQ(config->type, type);
      EXPECT_EQ(config->head_dim, one.head_dim);
      EXPECT_EQ(config->kv_size(), one.kv_heads * one.head_dim);
    }
}

// The numbers that the models' own pages give.
TEST(bench_options, shapes_have_the_published_number_of_parameters) {
  const std::pair<const char*, double> published[] = {
      {"smollm2-135m", 134.5e6}, {"smollm2-360m", 361.8e6}, {"smollm2-1.7b", 1.711e9},
      {"qwen2.5-0.5b", 494.0e6}, {"qwen2.5-1.5b", 1.544e9}, {"qwen2.5-3b", 3.086e9},
      {"qwen2.5-7b", 7.616e9},   {"llama-3.2-1b", 1.236e9}, {"llama-3.2-3b", 3.213e9},
      {"llama-3.1-8b", 8.030e9}, {"mistral-7b", 7.248e9},   {"qwen3-0.6b", 0.596e9},
      {"qwen3-1.7b", 1.721e9},   {"qwen3-4b", 4.022e9},     {"qwen3-8b", 8.191e9}};
  for (const auto& [name, parameters] : published) {
    const auto* shape = bench::find_shape(name);
    ASSERT_TRUE(shape) << name;
    const auto config = engine::parse_model_config(bench::config_json(*shape, dtype::bf16), name);
    ASSERT_TRUE(config);
    const auto bytes = engine::estimate_memory(
        *config, engine::quantized_bytes(*config, dtype::bf16, engine::quantization::none), {});
    EXPECT_NEAR(static_cast<double>(bytes.weights_bytes) / 2, parameters, parameters * 0.002)
        << name;
  }
}

TEST(bench_options, an_unknown_model_is_named_with_what_was_meant) {
  const auto chosen = bench::choose("lama-3.2-1b");
  ASSERT_FALSE(chosen);
  EXPECT_NE(describe(chosen.error()).find("did you mean 'llama-3.2-1b'"), std::string::npos);
  bench::options given;
  given.models = {"no such thing"};
  EXPECT_EQ(bench::run(given), not_found);
  given.models = {"tiny"};
  given.isa = "abacus";
  EXPECT_EQ(bench::run(given), usage);
}

} // namespace
} // namespace troupe::cli
