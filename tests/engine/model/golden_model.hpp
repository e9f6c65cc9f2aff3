#pragma once
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "engine/engine.hpp"
#include "engine/model/model_config.hpp"
#include "gpu/device.hpp"
#include "storage/checkpoint.hpp"
#include "storage/safetensors.hpp"

/// The tiny models of tests/golden/models, with what transformers computed for them.
namespace troupe::engine::golden {

inline std::filesystem::path root() {
  return std::filesystem::path{TROUPE_SOURCE_DIR} / "tests" / "golden" / "models";
}

inline std::vector<std::string> names() {
  std::vector<std::string> out;
  for (const auto& entry : std::filesystem::directory_iterator(root()))
    out.push_back(entry.path().filename().string());
  std::sort(out.begin(), out.end());
  return out;
}

inline std::string read_file(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

struct model {
  model_config config;
  std::shared_ptr<const storage::checkpoint> checkpoint;
  std::vector<token_id> prompt, greedy;
  std::vector<float> logits; ///< [prompt, vocabulary]
  weight_lookup own_lookup;  ///< of a file whose tensors have other names

  weight_lookup lookup() const {
    if (own_lookup)
      return own_lookup;
    return [held = checkpoint](std::string_view name) -> std::optional<weight_view> {
      const auto found = held->find(name);
      if (!found)
        return std::nullopt;
      return weight_view{
          found->type, {found->shape.begin(), found->shape.end()}, found->bytes.data()};
    };
  }
  std::unique_ptr<engine> open(gpu::device& device, engine_options options = {}) const {
    auto made = engine::create(config, lookup(), checkpoint, device, options);
    EXPECT_TRUE(made) << describe(made.error());
    return made ? std::move(*made) : nullptr;
  }
};

template <class From>
std::vector<token_id> ids_of(const std::string& file, const storage::tensor_entry& entry) {
  std::vector<From> raw(entry.size_bytes / sizeof(From));
  std::memcpy(raw.data(), file.data() + entry.offset_bytes, entry.size_bytes);
  return {raw.begin(), raw.end()};
}

/// Fills in what transformers computed.
inline void read_expected(const std::filesystem::path& path, model& out) {
  const auto file = read_file(path);
  auto entries =
      storage::parse_safetensors_header(std::as_bytes(std::span{file}), file.size(), path.string());
  ASSERT_TRUE(entries) << describe(entries.error());
  for (const auto& entry : *entries) {
    if (entry.name == "prompt")
      out.prompt = ids_of<int64_t>(file, entry);
    if (entry.name == "greedy")
      out.greedy = ids_of<int64_t>(file, entry);
    if (entry.name == "logits") {
      out.logits.resize(entry.size_bytes / sizeof(float));
      std::memcpy(out.logits.data(), file.data() + entry.offset_bytes, entry.size_bytes);
    }
  }
}

inline model load_dir(const std::filesystem::path& dir) {
  model out;
  auto config = parse_model_config(read_file(dir / "config.json"), dir.string());
  EXPECT_TRUE(config) << describe(config.error());
  out.config = *config;
  auto opened = storage::checkpoint::open(dir);
  EXPECT_TRUE(opened) << describe(opened.error());
  out.checkpoint = *opened;
  read_expected(dir / "expected.safetensors", out);
  return out;
}

inline model load(const std::string& name) { return load_dir(root() / name); }

/// Runs until the engine is idle; the generated tokens of each sequence.
inline std::map<uint64_t, std::vector<token_id>> drain(engine& engine) {
  std::map<uint64_t, std::vector<token_id>> out;
  while (!engine.idle()) {
    auto events = engine.step();
    EXPECT_TRUE(events) << describe(events.error());
    if (!events)
      break;
    for (const auto& event : *events) {
      EXPECT_EQ(event.offset, out[event.id.number].size());
      out[event.id.number].push_back(event.token);
    }
  }
  return out;
}

inline sequence_request request(uint64_t number, std::vector<token_id> prompt, uint32_t max_tokens,
                                float temperature = 0, uint64_t seed = 0) {
  sequence_request out;
  out.id = {number, 0};
  out.prompt_size = static_cast<uint32_t>(prompt.size());
  out.tokens = std::move(prompt);
  out.sampling.temperature = temperature;
  out.sampling.seed = seed;
  out.sampling.max_tokens = max_tokens;
  out.sampling.ignore_eos = true;
  return out;
}

} // namespace troupe::engine::golden
