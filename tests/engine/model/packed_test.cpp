#include <gmock/gmock.h>

#include "engine/errors.hpp"
#include "engine/model/packed_weights.hpp"
#include "engine/model/weights.hpp"
#include "tests/engine/model/golden_logits.hpp"

namespace troupe::engine {
namespace {

using testing::HasSubstr;

/// Made by tools/make_packed_models.py.
golden::model packed_model(const std::string& name) {
  auto out = golden::load_dir(golden::root().parent_path() / "packed_models" / name);
  auto lookup = packed_weights(out.config, out.lookup());
  EXPECT_TRUE(lookup) << describe(lookup.error());
  if (lookup)
    out.own_lookup = *lookup;
  return out;
}

class packed_test : public testing::TestWithParam<const char*> {
protected:
  golden::model model = packed_model(GetParam());
};

INSTANTIATE_TEST_SUITE_P(models, packed_test,
                         testing::Values("awq", "gptq_symmetric", "gptq_asymmetric",
                                         "gptq_act_order", "gptq_one_group", "gptq_v2", "fp8_block",
                                         "fp8_static", "ct_float_channel", "ct_float_block",
                                         "ct_int8_channel", "ct_int8_zeros", "ct_w4_group",
                                         "ct_w4_zeros", "ct_w4_order", "ct_mixed"),
                         [](const auto& one) { return std::string{one.param}; });

TEST_P(packed_test, logits_equal_those_of_transformers_with_the_weights_that_are_meant) {
  golden::expect_the_logits_of_transformers(model);
}

TEST_P(packed_test, sixty_four_greedy_tokens_equal_those_of_transformers) {
  golden::expect_the_greedy_text_of_transformers(model);
}

TEST(packed_weights_test, symmetric_groups_in_order_stay_in_four_bits) {
  const auto type_in = [](const char* name) {
    return packed_model(name).lookup()("model.layers.1.mlp.down_proj.weight")->type;
  };
  EXPECT_EQ(type_in("gptq_symmetric"), dtype::q4_0);
  EXPECT_EQ(type_in("gptq_act_order"), dtype::bf16);
  EXPECT_EQ(type_in("gptq_asymmetric"), dtype::bf16);
  EXPECT_EQ(type_in("awq"), dtype::bf16);
}

TEST_P(packed_test, what_is_declared_is_what_is_found) {
  const auto plain = golden::load_dir(golden::root().parent_path() / "packed_models" / GetParam());
  const auto late = packed_weights(plain.config, plain.lookup(), packed_trust::declared);
  ASSERT_TRUE(late);
  for (const auto& want : weight_plan(plain.config)) {
    const auto found = model.lookup()(want.name), declared = (*late)(want.name);
    ASSERT_TRUE(found && declared) << want.name;
    EXPECT_EQ(found->type, declared->type) << want.name;
    EXPECT_EQ(declared_weights(plain.config)(want.name)->shape, want.shape);
    if (!declared->make)
      continue;
    EXPECT_FALSE(declared->wait(want.shape[0], {}));
    std::vector<std::byte> one(bytes_of(found->type, static_cast<uint64_t>(want.shape[1]))),
        other(one.size());
    found->make(want.shape[0] - 1, 1, one.data());
    declared->make(want.shape[0] - 1, 1, other.data());
    EXPECT_EQ(one, other) << want.name;
  }
}

TEST(packed_weights_test, who_waits_hears_that_a_form_was_declared_wrongly) {
  const auto asked = "model.layers.1.mlp.down_proj.weight";
  const auto wrong = [&](const char* name) {
    auto plain = golden::load_dir(golden::root().parent_path() / "packed_models" / name);
    plain.config.packed->symmetric = !plain.config.packed->symmetric;
    const auto lookup = packed_weights(plain.config, plain.lookup(), packed_trust::declared);
    return lookup ? (*lookup)(asked)->wait(1, {}) : lookup.error();
  };
  EXPECT_EQ(wrong("gptq_symmetric"), errc::wrong_tensor);
  EXPECT_THAT(describe(wrong("gptq_symmetric")), HasSubstr("quantization_config"));
}

TEST(packed_weights_test, a_missing_or_misshapen_part_is_named) {
  const auto model = golden::load_dir(golden::root().parent_path() / "packed_models" / "gptq_v2");
  const auto complaint = [&](std::string_view part, auto change) {
    const auto lookup =
        packed_weights(model.config, [&](std::string_view name) -> std::optional<weight_view> {
          auto found = model.lookup()(name);
          return found && name.ends_with(part) ? change(*found) : found;
        });
    EXPECT_FALSE(lookup);
    return lookup ? "" : describe(lookup.error());
  };
  using changed = std::optional<weight_view>;
  EXPECT_THAT(complaint("k_proj.scales", [](weight_view) { return changed{}; }),
              HasSubstr("no tensor model.layers.0.self_attn.k_proj.scales"));
  EXPECT_THAT(complaint("up_proj.qzeros",
                        [](weight_view x) {
                          x.shape[0] += 1;
                          return changed{x};
                        }),
              HasSubstr("up_proj.qzeros has another shape or type"));
  EXPECT_THAT(complaint("v_proj.qweight",
                        [](weight_view x) {
                          x.type = dtype::f32;
                          return changed{x};
                        }),
              HasSubstr("v_proj.qweight has another shape or type"));
  static const std::vector<int32_t> wild(64, 99);
  EXPECT_THAT(complaint("q_proj.g_idx",
                        [](weight_view x) {
                          x.data = wild.data();
                          return changed{x};
                        }),
              HasSubstr("names group 99 of 2"));
}

TEST(packed_config_test, what_is_not_supported_is_said_with_what_is) {
  const auto complaint = [](const std::string& fields) {
    const auto config = parse_model_config(
        R"({"architectures":["LlamaForCausalLM"],"vocab_size":8,"hidden_size":8,)"
        R"("intermediate_size":8,"num_hidden_layers":1,"num_attention_heads":2,)"
        R"("quantization_config":{)" +
            fields + "}}",
        "config.json");
    EXPECT_FALSE(config);
    return config ? "" : describe(config.error());
  };
  EXPECT_THAT(
      complaint(R"("quant_method":"bitsandbytes","load_in_4bit":true)"),
      HasSubstr("quantization_config.quant_method is 'bitsandbytes', but supported are awq, "
                "gptq, fp8 and compressed-tensors"));
  EXPECT_THAT(complaint(R"("quant_method":"gptq","bits":3)"),
              HasSubstr("bits is 3, but supported is 4"));
  EXPECT_THAT(complaint(R"("quant_method":"gptq","bits":8)"), HasSubstr("bits is 8"));
  EXPECT_THAT(complaint(R"("quant_method":"awq","version":"gemv")"),
              HasSubstr("version is 'gemv'"));
  EXPECT_THAT(complaint(R"("quant_method":"awq","w_bit":8)"), HasSubstr("bits is 8"));
  EXPECT_THAT(complaint(R"("quant_method":"gptq","checkpoint_format":"marlin")"),
              HasSubstr("checkpoint_format is 'marlin'"));
  EXPECT_THAT(complaint(R"("quant_method":"gptq","dynamic":{"+:a":{"bits":8}})"),
              HasSubstr("dynamic"));
  EXPECT_THAT(complaint(R"("quant_method":"gptq","group_size":0)"), HasSubstr("group_size"));
}

} // namespace
} // namespace troupe::engine
