#include <gmock/gmock.h>

#include <cmath>

#include "base/half.hpp"
#include "engine/errors.hpp"
#include "engine/model/packed_weights.hpp"
#include "engine/model/weights.hpp"
#include "tests/engine/model/golden_logits.hpp"

namespace troupe::engine {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

golden::model packed_model(const std::string& name) {
  return golden::load_dir(golden::root().parent_path() / "packed_models" / name);
}

dtype type_in(const std::string& name, std::string_view weight) {
  const auto model = packed_model(name);
  const auto lookup = packed_weights(model.config, model.lookup());
  EXPECT_TRUE(lookup) << describe(lookup.error());
  return lookup ? (*lookup)(weight)->type : dtype::boolean;
}

/// What is said of that model if `change` is made to every tensor whose name ends with `part`.
template <class Change>
std::string complaint(const char* name, std::string_view part, const Change& change) {
  const auto model = packed_model(name);
  const auto lookup =
      packed_weights(model.config, [&](std::string_view asked) -> std::optional<weight_view> {
        auto found = model.lookup()(asked);
        if (!found || !asked.ends_with(part))
          return found;
        return change(*found);
      });
  if (!lookup)
    return describe(lookup.error());
  auto device = golden::exact_device();
  const auto weights = model_weights::bind(model.config, *lookup, *device);
  return weights ? "" : describe(weights.error());
}

std::optional<weight_view> gone(const weight_view&) { return std::nullopt; }

TEST(f8_e4m3, codes_are_the_numbers_of_the_format) {
  EXPECT_EQ(f8_e4m3_to_float(0x00), 0.0f);
  EXPECT_EQ(f8_e4m3_to_float(0x01), 0x1p-9f); // the smallest
  EXPECT_EQ(f8_e4m3_to_float(0x08), 0x1p-6f); // the first that is not subnormal
  EXPECT_EQ(f8_e4m3_to_float(0x38), 1.0f);
  EXPECT_EQ(f8_e4m3_to_float(0xb9), -1.125f);
  EXPECT_EQ(f8_e4m3_to_float(0x7e), 448.0f); // the largest
  EXPECT_TRUE(std::isnan(f8_e4m3_to_float(0x7f)));
  EXPECT_TRUE(std::isnan(f8_e4m3_to_float(0xff)));
}

TEST(scaled_weights, whole_numbers_become_blocks_that_say_the_same) {
  const auto down = "model.layers.1.mlp.down_proj.weight";
  EXPECT_EQ(type_in("ct_w4_group", down), dtype::q4_0);
  EXPECT_EQ(type_in("ct_w4_zeros", down), dtype::bf16);
  EXPECT_EQ(type_in("ct_w4_order", down), dtype::bf16);
  EXPECT_EQ(type_in("ct_int8_channel", down), dtype::q8_0);
  EXPECT_EQ(type_in("ct_int8_zeros", down), dtype::bf16);
  EXPECT_EQ(type_in("ct_mixed", down), dtype::q4_0);
  EXPECT_EQ(type_in("ct_mixed", "model.layers.1.self_attn.q_proj.weight"), dtype::q8_0);
}

TEST(scaled_weights, floats_keep_their_bits_where_their_scales_are_for_whole_blocks) {
  const auto down = "model.layers.1.mlp.down_proj.weight";
  EXPECT_EQ(type_in("fp8_block", down), dtype::f8_b128);
  EXPECT_EQ(type_in("ct_float_channel", down), dtype::f8_b128);
  EXPECT_EQ(type_in("fp8_static", down), dtype::bf16);
  EXPECT_EQ(type_in("ct_float_block", down), dtype::bf16);
}

TEST(scaled_weights, floats_take_about_the_bytes_of_the_file) {
  const auto model = packed_model("fp8_block");
  const auto lookup = packed_weights(model.config, model.lookup());
  ASSERT_TRUE(lookup);
  auto device = golden::exact_device();
  const auto kept = kept_bytes(model.config, *lookup, quantization::none, device.get());
  EXPECT_LT(static_cast<double>(kept), 1.05 * static_cast<double>(model.checkpoint->size_bytes()));
  const auto weights = model_weights::bind(model.config, *lookup, *device);
  ASSERT_TRUE(weights);
  EXPECT_EQ((*weights)->size_bytes, kept);
  EXPECT_EQ(kept_bytes(model.config, declared_weights(model.config), quantization::none), kept);
}

TEST(scaled_weights, take_as_much_where_they_are_as_the_configuration_says) {
  for (const auto* name : {"ct_float_channel", "ct_float_block", "ct_int8_zeros", "ct_mixed",
                           "ct_w4_group", "ct_w4_zeros", "fp8_block", "fp8_static"}) {
    const auto model = packed_model(name);
    const auto here = packed_weights(model.config, model.lookup());
    ASSERT_TRUE(here) << name;
    EXPECT_EQ(kept_bytes(model.config, declared_weights(model.config), quantization::none),
              kept_bytes(model.config, *here, quantization::none))
        << name;
  }
}

TEST(scaled_weights, those_that_a_list_names_are_counted_as_they_are) {
  const auto type_by = [](const std::string& list, std::string_view weight) {
    const auto config = parse_model_config(
        R"({"architectures":["LlamaForCausalLM"],"vocab_size":128,"hidden_size":128,)"
        R"("intermediate_size":128,"num_hidden_layers":2,"num_attention_heads":2,)"
        R"("torch_dtype":"bfloat16","quantization_config":{)" +
            list + "}}",
        "config.json");
    EXPECT_TRUE(config) << describe(config.error());
    return declared_weights(*config)("model.layers." + std::string{weight} + "_proj.weight")->type;
  };
  const std::string fp8 =
      R"("quant_method":"fp8","weight_block_size":[128,128],"modules_to_not_convert":)";
  EXPECT_EQ(type_by(fp8 + "null", "0.mlp.up"), dtype::f8_b128);
  const auto some = fp8 + R"(["lm_head","model.layers.1","mlp.down_proj","up","gate","re:("])";
  EXPECT_EQ(type_by(some, "0.mlp.up"), dtype::f8_b128);
  EXPECT_EQ(type_by(some, "0.mlp.gate"), dtype::f8_b128);
  EXPECT_EQ(type_by(some, "0.mlp.down"), dtype::bf16);
  EXPECT_EQ(type_by(some, "1.mlp.up"), dtype::bf16);
  EXPECT_EQ(type_by(some, "1.self_attn.o"), dtype::bf16);
  const auto words = R"("quant_method":"compressed-tensors","format":"pack-quantized",)"
                     R"("config_groups":{"a":{"targets":["re:.*mlp.*"],"weights":)"
                     R"({"num_bits":4,"strategy":"group","group_size":32}}},)"
                     R"("ignore":["re:layers.0","re:model.layers.1.*up"])";
  EXPECT_EQ(type_by(words, "0.mlp.up"), dtype::q4_0) << "a pattern matches from the beginning";
  EXPECT_EQ(type_by(words, "1.mlp.up"), dtype::bf16);
  EXPECT_EQ(type_by(words, "1.mlp.down"), dtype::q4_0);
  EXPECT_EQ(type_by(words, "1.self_attn.o"), dtype::bf16) << "no group's target";
}

TEST(scaled_weights, those_that_are_left_alone_come_as_they_are) {
  EXPECT_EQ(type_in("ct_w4_group", "model.layers.0.mlp.down_proj.weight"), dtype::f16);
  EXPECT_EQ(type_in("ct_int8_channel", "model.layers.1.self_attn.o_proj.weight"), dtype::f16);
  EXPECT_EQ(type_in("fp8_block", "lm_head.weight"), dtype::f16);
}

TEST(scaled_weights, scales_that_f16_does_not_hold_make_bf16) {
  static const std::vector<uint16_t> wide(64 * 96, float_to_bf16(3e5f));
  const auto model = packed_model("ct_int8_channel");
  const auto lookup =
      packed_weights(model.config, [&](std::string_view name) -> std::optional<weight_view> {
        auto found = model.lookup()(name);
        if (name.ends_with("k_proj.weight_scale"))
          found->data = wide.data();
        return found;
      });
  ASSERT_TRUE(lookup);
  EXPECT_EQ((*lookup)("model.layers.0.self_attn.k_proj.weight")->type, dtype::bf16);
  EXPECT_EQ((*lookup)("model.layers.0.self_attn.q_proj.weight")->type, dtype::q8_0);
}

TEST(scaled_weights, a_missing_part_is_named) {
  EXPECT_THAT(complaint("fp8_block", "k_proj.weight_scale_inv", gone),
              HasSubstr("no tensor model.layers.0.self_attn.k_proj.weight_scale, the scales of"));
  EXPECT_THAT(complaint("ct_w4_zeros", "up_proj.weight_zero_point", gone),
              HasSubstr("no tensor model.layers.0.mlp.up_proj.weight_zero_point"));
  EXPECT_THAT(complaint("ct_w4_group", "up_proj.weight_packed", gone),
              HasSubstr("no tensor model.layers.0.mlp.up_proj.weight"));
}

TEST(scaled_weights, a_part_of_another_shape_or_type_is_named_with_what_was_asked_for) {
  const auto longer = [](weight_view x) {
    x.shape[0] += 1;
    return std::optional{x};
  };
  const auto retyped = [](dtype type) {
    return [type](weight_view x) {
      x.type = type;
      return std::optional{x};
    };
  };
  EXPECT_THAT(complaint("fp8_block", "down_proj.weight_scale_inv", longer),
              HasSubstr("down_proj.weight_scale_inv holds f32 [2, 2], which quantization_config in "
                        "config.json does not ask for, but for [1, 2]"));
  EXPECT_THAT(complaint("fp8_block", "down_proj.weight_scale_inv", retyped(dtype::f8_e4m3)),
              HasSubstr("supported are f32, f16 and bf16"));
  EXPECT_THAT(complaint("ct_w4_group", "q_proj.weight_packed", longer),
              HasSubstr("q_proj.weight_packed holds i32 [65, 8], which quantization_config in "
                        "config.json does not ask for with weights of [64, 64]"));
  EXPECT_THAT(complaint("ct_int8_channel", "q_proj.weight", retyped(dtype::f8_e4m3)),
              HasSubstr("q_proj.weight holds f8_e4m3 [64, 64]"));
  EXPECT_THAT(complaint("ct_w4_zeros", "q_proj.weight_zero_point", longer),
              HasSubstr("q_proj.weight_zero_point holds i32"));
  EXPECT_THAT(complaint("ct_w4_order", "q_proj.weight_g_idx", retyped(dtype::f32)),
              HasSubstr("q_proj.weight_g_idx holds f32"));
  EXPECT_THAT(complaint("ct_w4_group", "q_proj.weight_shape", longer),
              HasSubstr("q_proj.weight_shape holds i64 [3]"));
}

TEST(scaled_weights, contents_that_cannot_be_are_refused) {
  const auto filled = [](const void* data) {
    return [data](weight_view x) {
      x.data = data;
      return std::optional{x};
    };
  };
  static const std::vector<float> no_numbers(64, std::nanf(""));
  static const std::vector<int32_t> wild(96, 99);
  static const std::vector<int64_t> sides{64, 63};
  static const std::vector<uint8_t> nan_codes(128 * 256, 0xff);
  EXPECT_THAT(complaint("fp8_block", "o_proj.weight_scale_inv", filled(no_numbers.data())),
              HasSubstr("o_proj.weight has a scale that is no number"));
  EXPECT_THAT(complaint("ct_w4_order", "q_proj.weight_g_idx", filled(wild.data())),
              HasSubstr("q_proj.weight_g_idx names group 99 of 2"));
  EXPECT_THAT(complaint("ct_w4_group", "q_proj.weight_shape", filled(sides.data())),
              HasSubstr("q_proj.weight_shape says 63, but the configuration asks for 64"));
  EXPECT_THAT(complaint("fp8_block", "layers.1.mlp.down_proj.weight", filled(nan_codes.data())),
              HasSubstr("layers.1.mlp.down_proj.weight holds codes that are no number (NaN)"));
}

TEST(scaled_weights, who_waits_hears_that_scales_are_not_as_declared) {
  static const std::vector<uint16_t> wide(64 * 96, float_to_bf16(3e5f));
  const auto model = packed_model("ct_int8_channel");
  const auto lookup = packed_weights(
      model.config,
      [&](std::string_view name) {
        auto found = model.lookup()(name);
        if (found && name.ends_with("_scale"))
          found->data = wide.data();
        return found;
      },
      packed_trust::declared);
  ASSERT_TRUE(lookup);
  EXPECT_EQ((*lookup)("model.layers.0.self_attn.q_proj.weight")->wait(1, {}), errc::wrong_tensor);
}

TEST(scaled_weights, scales_come_before_the_codes_that_need_them) {
  const auto model = packed_model("fp8_block");
  const auto has = [&](std::string_view name) { return model.lookup()(name).has_value(); };
  EXPECT_TRUE(packed_in_order(model.config));
  const auto names = packed_names(model.config, has);
  const auto at = std::ranges::find(names, "model.layers.0.self_attn.q_proj.weight");
  ASSERT_NE(at, names.end());
  EXPECT_EQ(*(at - 1), "model.layers.0.self_attn.q_proj.weight_scale_inv");
  const auto words = packed_model("ct_w4_group");
  EXPECT_FALSE(packed_in_order(words.config));
}

class scaled_config : public testing::Test {
protected:
  static caf::expected<model_config> parse(const std::string& fields) {
    return parse_model_config(
        R"({"architectures":["LlamaForCausalLM"],"vocab_size":8,"hidden_size":8,)"
        R"("intermediate_size":8,"num_hidden_layers":1,"num_attention_heads":2,)"
        R"("quantization_config":{)" +
            fields + "}}",
        "config.json");
  }
  static std::string complaint(const std::string& fields) {
    const auto config = parse(fields);
    EXPECT_FALSE(config);
    return config ? "" : describe(config.error());
  }
  static std::string compressed(const std::string& weights, const std::string& format,
                                const std::string& more = "") {
    return R"("quant_method":"compressed-tensors","format":")" + format +
           R"(","config_groups":{"group_0":{"targets":["Linear"],"weights":{)" + weights + "}}}" +
           more;
  }
};

TEST_F(scaled_config, what_is_not_supported_is_said_with_what_is) {
  const auto int4 = R"("type":"int","num_bits":4,"strategy":"channel")";
  EXPECT_THAT(complaint(R"("quant_method":"fp8","fmt":"e5m2")"),
              HasSubstr("quantization_config.fmt is 'e5m2', but supported is e4m3"));
  EXPECT_THAT(complaint(R"("quant_method":"fp8","weight_block_size":[128])"),
              HasSubstr("weight_block_size must be two numbers"));
  EXPECT_THAT(complaint(R"("quant_method":"fp8","weight_block_size":[0,128])"),
              HasSubstr("weight_block_size must be two numbers"));
  EXPECT_THAT(complaint(compressed(int4, "marlin-24")),
              HasSubstr("config_groups.group_0.format is 'marlin-24', but supported are "
                        "float-quantized, int-quantized, naive-quantized and pack-quantized"));
  EXPECT_THAT(complaint(compressed(int4, "int-quantized")),
              HasSubstr("group_0.weights.num_bits is '4 (int, int-quantized)', but supported"));
  EXPECT_THAT(complaint(compressed(R"("type":"int","num_bits":3)", "pack-quantized")),
              HasSubstr("num_bits is '3 (int, pack-quantized)'"));
  EXPECT_THAT(complaint(compressed(R"("type":"float","num_bits":4)", "float-quantized")),
              HasSubstr("num_bits is '4 (float, float-quantized)'"));
  EXPECT_THAT(
      complaint(compressed(R"("num_bits":4,"strategy":"tensor_group")", "pack-quantized")),
      HasSubstr("strategy is 'tensor_group', but supported are tensor, channel, group and block"));
  EXPECT_THAT(complaint(compressed(R"("num_bits":4,"strategy":"group")", "pack-quantized")),
              HasSubstr("group_size must be a number of weights"));
  EXPECT_THAT(complaint(compressed(R"("num_bits":8,"strategy":"block")", "int-quantized")),
              HasSubstr("block_structure is missing"));
  EXPECT_THAT(complaint(compressed(int4, "pack-quantized",
                                   R"(,"sparsity_config":{"format":"sparse-24-bitmask"})")),
              HasSubstr("sparsity_config.format is 'sparse-24-bitmask', but supported is dense"));
  EXPECT_THAT(complaint(compressed(int4, "pack-quantized",
                                   R"(,"transform_config":{"config_groups":{"a":{}}})")),
              HasSubstr("transform_config asks for turned weights"));
}

TEST_F(scaled_config, forms_say_which_weights_share_a_scale) {
  const auto sides = [&](const std::string& fields) {
    std::vector<std::pair<int64_t, int64_t>> out;
    const auto config = parse(fields);
    EXPECT_TRUE(config) << describe(config.error());
    if (config && config->packed)
      for (const auto& form : config->packed->forms)
        out.emplace_back(form.rows, form.cols);
    return out;
  };
  using pair = std::pair<int64_t, int64_t>;
  EXPECT_THAT(sides(R"("quant_method":"fp8","weight_block_size":[128,64])"),
              ElementsAre(pair{128, 64}));
  EXPECT_THAT(sides(R"("quant_method":"fp8","activation_scheme":"static")"),
              ElementsAre(pair{-1, -1}, pair{1, -1}));
  EXPECT_THAT(sides(compressed(R"("num_bits":4,"group_size":32)", "pack-quantized")),
              ElementsAre(pair{1, 32}));
  EXPECT_THAT(sides(compressed(R"("num_bits":4,"group_size":-1)", "pack-quantized")),
              ElementsAre(pair{1, -1}));
  EXPECT_THAT(sides(compressed(R"("num_bits":8,"strategy":"tensor")", "int-quantized")),
              ElementsAre(pair{-1, -1}));
  // Only keys and values are said to be quantized, which changes no weight.
  EXPECT_THAT(sides(R"("quant_method":"compressed-tensors","config_groups":{},)"
                    R"("kv_cache_scheme":{"num_bits":8,"type":"float"})"),
              IsEmpty());
}

} // namespace
} // namespace troupe::engine
