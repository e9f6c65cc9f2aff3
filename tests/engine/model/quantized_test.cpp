#include <cmath>
#include <numeric>

#include "engine/kv/kv_arena.hpp"
#include "engine/model/graph.hpp"
#include "tests/engine/model/golden_model.hpp"

namespace troupe::engine {
namespace {

/// A model that was trained, so that its weights and activations are like those of real ones.
class trained_model : public testing::Test {
protected:
  void SetUp() override {
    const auto dir =
        std::filesystem::path{TROUPE_SOURCE_DIR} / "examples" / "models" / "stories-llama";
    auto config = parse_model_config(golden::read_file(dir / "config.json"), "stories-llama");
    ASSERT_TRUE(config) << describe(config.error());
    model.config = *config;
    auto opened = storage::checkpoint::open(dir);
    ASSERT_TRUE(opened) << describe(opened.error());
    model.checkpoint = *opened;
    // What the model itself says is the text that it knows best.
    const auto begin = static_cast<token_id>(model.config.vocab_size - 5); // begin_of_text
    auto engine = model.open(*device);
    ASSERT_FALSE(engine->add(golden::request(1, {begin}, 120, 0.8f, 1)));
    text = golden::drain(*engine)[1];
    text.insert(text.begin(), begin);
  }

  std::vector<float> logits(quantization quantize) {
    auto weights = model_weights::bind(model.config, model.lookup(), *device, quantize);
    EXPECT_TRUE(weights) << describe(weights.error());
    const auto rows = static_cast<int64_t>(text.size());
    engine_options options;
    options.sequences_max = 1;
    auto kv = kv_arena::create(model.config, plan_kv(model.config, dtype::bf16, options), *device);
    auto forward = graph::create(model.config, **weights, *device, rows, rows, 16);
    EXPECT_TRUE(kv && forward);
    forward_batch batch;
    batch.tokens = text;
    for (int32_t i = 0; i < rows; ++i) {
      batch.positions.push_back(i);
      batch.slots.push_back(i);
      batch.logit_rows.push_back(i);
    }
    batch.row_start = {0, static_cast<int32_t>(rows)};
    batch.context = {static_cast<int32_t>(rows)};
    batch.block_table.resize(16);
    std::iota(batch.block_table.begin(), batch.block_table.end(), 0);
    batch.table_stride = 16;
    auto out = (*forward)->run(batch, *kv);
    EXPECT_TRUE(out);
    return {out->begin(), out->end()};
  }

  /// Mean over the rows of the Kullback-Leibler divergence of `got` from `want`, in nats.
  double divergence(const std::vector<float>& want, const std::vector<float>& got) const {
    const auto width = static_cast<size_t>(model.config.vocab_size);
    double total = 0;
    for (size_t row = 0; row < want.size() / width; ++row) {
      const float* p = want.data() + row * width;
      const float* q = got.data() + row * width;
      double p_sum = 0, q_sum = 0;
      for (size_t i = 0; i < width; ++i) {
        p_sum += std::exp(double{p[i]});
        q_sum += std::exp(double{q[i]});
      }
      for (size_t i = 0; i < width; ++i)
        total +=
            std::exp(double{p[i]}) / p_sum * ((p[i] - std::log(p_sum)) - (q[i] - std::log(q_sum)));
    }
    return total / static_cast<double>(want.size() / width);
  }

  golden::model model;
  std::unique_ptr<gpu::device> device = gpu::make_cpu_device();
  std::vector<token_id> text;
};

TEST_F(trained_model, quantized_weights_hardly_change_what_is_predicted) {
  const auto want = logits(quantization::none);
  const auto int8 = divergence(want, logits(quantization::int8));
  const auto int4 = divergence(want, logits(quantization::int4));
  RecordProperty("int8_divergence", std::to_string(int8));
  RecordProperty("int4_divergence", std::to_string(int4));
  EXPECT_LT(int8, 0.0001);
  EXPECT_LT(int4, 0.002);
  EXPECT_GT(int4, int8); // or nothing was quantized
}

TEST_F(trained_model, the_estimate_of_quantized_weights_is_what_they_take) {
  for (const auto quantize : {quantization::int8, quantization::int4}) {
    engine_options options;
    options.quantize = quantize;
    auto engine = model.open(*device, options);
    const auto real = engine->memory().weights_bytes;
    EXPECT_EQ(estimate_memory(model.config, 1, options).weights_bytes, real);
    EXPECT_LT(real, model.checkpoint->size_bytes());
  }
}

} // namespace
} // namespace troupe::engine
