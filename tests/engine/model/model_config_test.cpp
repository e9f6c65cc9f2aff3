#include "engine/model/model_config.hpp"

#include <gtest/gtest.h>

#include "engine/errors.hpp"
#include "tests/engine/model/golden_model.hpp"

namespace troupe::engine {
namespace {

const std::string base =
    R"({"architectures":["LlamaForCausalLM"],"vocab_size":100,"hidden_size":32,)"
    R"("intermediate_size":64,"num_hidden_layers":2,"num_attention_heads":4,)"
    R"("num_key_value_heads":2,"max_position_embeddings":128)";

TEST(model_config, every_golden_config_parses) {
  for (const auto& name : golden::names()) {
    const auto parsed =
        parse_model_config(golden::read_file(golden::root() / name / "config.json"), name);
    EXPECT_TRUE(parsed) << describe(parsed.error());
  }
}

struct hostile {
  const char* name;
  std::string text;
  const char* says;
};
class hostile_config : public testing::TestWithParam<hostile> {};

TEST_P(hostile_config, names_the_file_and_the_key) {
  const auto parsed = parse_model_config(GetParam().text, "config.json");
  ASSERT_FALSE(parsed);
  const auto said = describe(parsed.error());
  EXPECT_TRUE(said.starts_with("config.json")) << said;
  EXPECT_NE(said.find(GetParam().says), std::string::npos) << said;
}

INSTANTIATE_TEST_SUITE_P(
    files, hostile_config,
    testing::Values(
        hostile{"empty", "", "JSON"}, hostile{"list", "[1]", "object"},
        hostile{"unknown_family", R"({"architectures":["GPT2LMHeadModel"]})", "LlamaForCausalLM"},
        hostile{"no_size", R"({"architectures":["LlamaForCausalLM"]})", "vocab_size"},
        hostile{"no_heads", base + R"(,"num_attention_heads":0})", "num_attention_heads"},
        hostile{"negative", base + R"(,"vocab_size":-5})", "vocab_size"},
        hostile{"huge", base + R"(,"hidden_size":1000000000000000000})", "hidden_size"},
        hostile{"text", base + R"(,"num_hidden_layers":"two"})", "num_hidden_layers"},
        hostile{"uneven_groups", base + R"(,"num_key_value_heads":3})", "num_key_value_heads"},
        hostile{"bad_eps", base + R"(,"rms_norm_eps":-1})", "rms_norm_eps"},
        hostile{"bad_scaling", base + R"(,"rope_scaling":{"type":"magic","factor":2}})", "magic"},
        hostile{"bad_act", base + R"(,"hidden_act":"mish"})", "hidden_act"}),
    [](const auto& one) { return one.param.name; });

} // namespace
} // namespace troupe::engine
