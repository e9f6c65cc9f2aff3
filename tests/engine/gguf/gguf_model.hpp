#pragma once
#include "actors/weight_views.hpp"
#include "engine/gguf/config.hpp"
#include "engine/gguf/weights.hpp"
#include "storage/gguf_files.hpp"
#include "tests/engine/model/golden_logits.hpp"

/// GGUF models made by tools/make_gguf_models.py.
namespace troupe::engine::golden {

inline std::filesystem::path gguf_root() { return root().parent_path() / "gguf_models"; }

/// Opens a GGUF model; its `expected` says what transformers computes with the same weights.
inline model load_gguf(const std::filesystem::path& file, const std::filesystem::path& expected) {
  model out;
  auto head = storage::gguf_head::read_first(file);
  EXPECT_TRUE(head) << describe(head.error());
  auto opened = storage::checkpoint::open(file);
  EXPECT_TRUE(opened) << describe(opened.error());
  if (!head || !opened)
    return out;
  out.checkpoint = *opened;
  auto tensors = actors::weight_views(**opened);
  auto config = gguf_model_config({head->header().values, tensors, file.string()});
  EXPECT_TRUE(config) << describe(config.error());
  if (!config)
    return out;
  out.config = *config;
  out.own_lookup = gguf_weights(out.config, std::move(tensors));
  read_expected(expected, out);
  return out;
}

} // namespace troupe::engine::golden
