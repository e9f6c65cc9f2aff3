#include <gtest/gtest.h>

#include "actors/model_files.hpp"
#include "actors/weight_views.hpp"
#include "base/error.hpp"
#include "engine/gguf/config.hpp"
#include "engine/gguf/weights.hpp"
#include "engine/model/weights.hpp"
#include "gpu/cpu/cpu_device.hpp"
#include "storage/checkpoint.hpp"
#include "storage/gguf_files.hpp"

/// What a node foretells of a model's memory before it loads it, beside what a load then takes.
namespace troupe::actors {
namespace {

using engine::quantization;

/// Takes q8_0 and q4_0 alone, the least that a device does.
class few_types final : public gpu::cpu::cpu_device {
public:
  few_types() : cpu_device{{2, gpu::precision::float32, "", 0}} {}
  bool takes(dtype type) const override { return gpu::device::takes(type); }
};

std::string path_of(const std::string& name) {
  return std::string{TROUPE_SOURCE_DIR} + "/tests/golden/gguf_models/" + name + ".gguf";
}

/// Binds the model's weights and counts.
uint64_t bound_bytes(const std::string& path, gpu::device& device, quantization quantize) {
  const auto head = storage::gguf_head::read_first(path);
  const auto files = storage::checkpoint::open(path);
  EXPECT_TRUE(head && files) << path;
  const auto tensors = weight_views(**files);
  const auto config = engine::gguf_model_config({head->header().values, tensors, path});
  EXPECT_TRUE(config) << describe(config.error());
  const auto bound = engine::model_weights::bind(*config, engine::gguf_weights(*config, tensors),
                                                 device, quantize);
  EXPECT_TRUE(bound) << describe(bound.error());
  return (*bound)->size_bytes;
}

uint64_t foretold(const std::string& path, quantization quantize,
                  const std::vector<std::shared_ptr<gpu::device>>& devices) {
  const auto out = gguf_weight_bytes(path, quantize, devices);
  EXPECT_TRUE(out) << describe(out.error());
  return out ? *out : 0;
}

TEST(model_bytes, blocks_that_the_device_does_not_take_count_as_what_they_become) {
  const std::shared_ptr<gpu::device> all = gpu::make_cpu_device({2, {}, "", 0}),
                                     few = std::make_shared<few_types>();
  for (const auto* name : {"q4_k_m", "blocks", "llama_f16"})
    for (const auto quantize : {quantization::none, quantization::int8, quantization::int4}) {
      const auto path = path_of(name);
      const auto on_all = bound_bytes(path, *all, quantize);
      const auto on_few = bound_bytes(path, *few, quantize);
      EXPECT_EQ(foretold(path, quantize, {all}), on_all) << path;
      EXPECT_EQ(foretold(path, quantize, {few}), on_few) << path;
      EXPECT_EQ(foretold(path, quantize, {all, few}), std::max(on_all, on_few)) << path;
    }
  const auto path = path_of("q4_k_m");
  EXPECT_GT(foretold(path, quantization::none, {few}),
            2 * foretold(path, quantization::none, {all}));
}

TEST(model_bytes, a_file_that_is_no_model_is_named) {
  const auto none = gguf_weight_bytes(path_of("nothing"), quantization::none);
  ASSERT_FALSE(none);
  EXPECT_NE(describe(none.error()).find("nothing.gguf"), std::string::npos);
}

} // namespace
} // namespace troupe::actors
