#include <algorithm>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "engine/gguf/frontend.hpp"
#include "engine/gguf/merges.hpp"
#include "engine/gguf/tokenizer.hpp"
#include "storage/gguf_files.hpp"

namespace troupe::engine {
namespace {

namespace fs = std::filesystem;
using json = nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

const fs::path goldens = fs::path{TROUPE_SOURCE_DIR} / "tests" / "golden";

/// Made by tools/make_gguf_tokenizers.py.
storage::gguf_head head_of(const std::string& family) {
  auto head = storage::gguf_head::read_first(goldens / "gguf_tokenizers" / (family + ".gguf"));
  EXPECT_TRUE(head) << describe(head.error());
  return std::move(*head);
}

weight_lookup no_tensors() {
  return [](std::string_view) { return std::nullopt; };
}

json cases_of(const std::string& family) {
  auto file = goldens / "gguf_tokenizers" / (family + ".cases.json");
  if (!fs::exists(file)) // the very tokenizer of another test
    file = goldens / "tokenizers" / (family + ".cases.json");
  std::ifstream in(file);
  return json::parse(in);
}

class gguf_tokenizer_test : public testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(families, gguf_tokenizer_test,
                         testing::Values("gpt2", "llama3", "qwen2", "smollm", "tekken", "gpt4o",
                                         "sentencepiece"),
                         [](const auto& one) { return std::string{one.param}; });

TEST_P(gguf_tokenizer_test, gives_the_ids_and_texts_of_the_models_own_tokenizer) {
  const auto head = head_of(GetParam());
  const auto tokens = gguf_tokenizer({head.header().values, no_tensors(), "m.gguf"});
  ASSERT_TRUE(tokens) << describe(tokens.error());
  size_t cases = 0;
  for (const auto& one : cases_of(GetParam())) {
    const auto text = one["text"].get<std::string>();
    const auto ids = one["ids"].get<std::vector<token_id>>();
    EXPECT_EQ((*tokens)->encode(text), ids) << one["text"];
    EXPECT_EQ((*tokens)->encode(text, false), one["plain"].get<std::vector<token_id>>());
    EXPECT_EQ((*tokens)->decode(ids), one["decoded"].get<std::string>()) << one["text"];
    EXPECT_EQ((*tokens)->decode(ids, false), one["verbatim"].get<std::string>());
    ++cases;
  }
  EXPECT_GT(cases, 50u);
}

/// What is wrong with the metadata of a family that `change` spoiled.
template <class Change>
std::string complaint(const std::string& family, Change change) {
  const auto head = head_of(family);
  auto values = head.header().values;
  change(values);
  const auto tokens = gguf_tokenizer({values, no_tensors(), "m.gguf"});
  EXPECT_FALSE(tokens);
  return tokens ? "" : describe(tokens.error());
}

TEST(gguf_tokenizer_metadata, what_is_wrong_or_not_supported_is_said) {
  const auto set = [](std::string_view name, metadata_value value) {
    return [=](metadata& values) { values[name] = value; };
  };
  const auto without = [](std::string_view name) {
    return [=](metadata& values) { values.erase(name); };
  };
  EXPECT_THAT(complaint("gpt2", set("tokenizer.ggml.model", std::string_view{"bert"})),
              HasSubstr("m.gguf: tokenizer.ggml.model is 'bert', which is not supported; supported "
                        "are gpt2 and llama"));
  EXPECT_THAT(complaint("gpt2", set("tokenizer.ggml.pre", std::string_view{"viking"})),
              HasSubstr("tokenizer.ggml.pre is 'viking', which is not supported; supported are "
                        "llama-bpe"));
  EXPECT_THAT(complaint("gpt2", without("tokenizer.ggml.pre")),
              HasSubstr("tokenizer.ggml.pre is missing"));
  EXPECT_THAT(complaint("gpt2", without("tokenizer.ggml.model")), HasSubstr("no tokenizer"));
  EXPECT_THAT(complaint("gpt2", without("tokenizer.ggml.tokens")), HasSubstr("tokens is missing"));
  EXPECT_THAT(complaint("gpt2", without("tokenizer.ggml.merges")), HasSubstr("merges is missing"));
  EXPECT_THAT(complaint("sentencepiece", without("tokenizer.ggml.scores")),
              HasSubstr("tokenizer.ggml.scores"));
  const metadata_list one_part = std::vector<std::string_view>{"ab"};
  EXPECT_THAT(complaint("gpt2", set("tokenizer.ggml.merges", one_part)), HasSubstr("one part"));
  const metadata_list no_text = std::vector<std::string_view>{"a", "\xff"};
  EXPECT_THAT(complaint("gpt2", set("tokenizer.ggml.tokens", no_text)),
              HasSubstr("token 1 is not UTF-8"));
}

TEST(gguf_tokenizer_metadata, old_qwen_files_that_name_no_pre_tokenizer_are_understood) {
  const auto head = head_of("qwen2");
  auto values = head.header().values;
  values.erase("tokenizer.ggml.pre");
  values["general.architecture"] = std::string_view{"qwen2"};
  const auto tokens = gguf_tokenizer({values, no_tensors(), "m.gguf"});
  ASSERT_TRUE(tokens) << describe(tokens.error());
  for (const auto& one : cases_of("qwen2"))
    EXPECT_EQ((*tokens)->encode(one["text"].get<std::string>()),
              one["ids"].get<std::vector<token_id>>());
}

TEST(gguf_merges, every_way_to_make_a_piece_is_a_merge_and_the_best_score_comes_first) {
  const std::vector<std::string_view> pieces{"a", "b", "", "ab", "ba", "aba"};
  const std::vector<double> scores{-10, -11, 0, -2, -1, -3};
  EXPECT_THAT(merges_of_scores(pieces, scores),
              ElementsAre(Pair("b", "a"), Pair("a", "b"), Pair("ab", "a"), Pair("a", "ba")));
}

/// A model whose tensors are only named.
weight_lookup tiny_tensors() {
  return [](std::string_view name) -> std::optional<weight_view> {
    weight_view out;
    out.shape = {1000, 8};
    return name == "token_embd.weight" ? std::optional{out} : std::nullopt;
  };
}

TEST(gguf_frontend, template_end_tokens_and_advice_come_from_the_metadata) {
  const auto head = head_of("llama3");
  auto values = head.header().values;
  for (const auto& [name, value] : {std::pair{"llama.context_length", 64u},
                                    {"llama.embedding_length", 8u},
                                    {"llama.block_count", 1u},
                                    {"llama.feed_forward_length", 8u},
                                    {"llama.attention.head_count", 2u}})
    values[name] = uint64_t{value};
  values["llama.attention.layer_norm_rms_epsilon"] = 1e-5;
  values["general.sampling.temp"] = 0.25;
  values["general.sampling.top_k"] = int64_t{7};
  values["tokenizer.ggml.eos_token_id"] = uint64_t{4}; // <|eot_id|>
  values["tokenizer.chat_template"] = std::string_view{
      "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}"
      "{% endfor %}"};
  const auto text = load_gguf_frontend({values, tiny_tensors(), "m.gguf"}, "tiny");
  ASSERT_TRUE(text) << describe(text.error());
  const auto rendered =
      (*text)->render_chat({{{"role", "user"}, {"content", "hi"}}}, nlohmann::ordered_json{});
  ASSERT_TRUE(rendered) << describe(rendered.error());
  EXPECT_EQ(*rendered, "<|begin_of_text|>user: hi<|eot_id|>");
  EXPECT_EQ((*text)->context_length, 64u);
  EXPECT_EQ((*text)->defaults.temperature, 0.25f);
  EXPECT_EQ((*text)->defaults.top_k, 7);
  // The file names one, the vocabulary's texts tell the other.
  EXPECT_THAT((*text)->config.eos_token_ids, ElementsAre(4, 1));
}

} // namespace
} // namespace troupe::engine
