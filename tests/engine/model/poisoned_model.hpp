#pragma once
#include "tests/engine/model/golden_model.hpp"

namespace troupe::engine::golden {

/// The model with an embedding of NaN for one token.
class poisoned_token {
public:
  poisoned_token(const model& model, token_id token) : model_{model} {
    const auto found = *model.lookup()("model.embed_tokens.weight");
    const auto columns = static_cast<size_t>(found.shape[1]);
    const auto size = static_cast<size_t>(found.shape[0]) * columns * size_of(found.type);
    table_.resize(size);
    std::memcpy(table_.data(), found.data, size);
    // All bits set is NaN in every floating type.
    const auto row = columns * size_of(found.type);
    std::memset(table_.data() + static_cast<size_t>(token) * row, 0xff, row);
    // The head keeps the sound weights, or every sequence would be hit.
    head_ = found;
  }
  std::unique_ptr<engine> open(gpu::device& device, const engine_options& options = {}) {
    auto config = model_.config;
    config.tied_embeddings = false;
    auto made = engine::create(
        config,
        [this](std::string_view name) {
          if (name == "lm_head.weight")
            return std::optional{head_};
          auto found = model_.lookup()(name);
          if (found && name == "model.embed_tokens.weight")
            found->data = table_.data();
          return found;
        },
        nullptr, device, options);
    EXPECT_TRUE(made) << describe(made.error());
    return made ? std::move(*made) : nullptr;
  }

private:
  const model& model_;
  std::vector<char> table_;
  weight_view head_;
};

} // namespace troupe::engine::golden
