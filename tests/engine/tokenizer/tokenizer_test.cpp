#include "engine/tokenizer/tokenizer.hpp"

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "engine/tokenizer/errors.hpp"
#include "engine/tokenizer/stream_decoder.hpp"
#include "engine/tokenizer/utf8.hpp"

namespace troupe::engine {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const fs::path golden = fs::path{TROUPE_SOURCE_DIR} / "tests" / "golden" / "tokenizers";

std::vector<std::string> families() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(golden))
    if (const auto name = entry.path().filename().string(); name.ends_with(".cases.json"))
      names.push_back(name.substr(0, name.size() - 11));
  return names;
}

std::shared_ptr<const tokenizer> load(const std::string& family) {
  auto loaded = tokenizer::load(golden / (family + ".json"));
  EXPECT_TRUE(loaded) << describe(loaded.error());
  return loaded ? *loaded : nullptr;
}

json parse_file(const fs::path& file) {
  std::ifstream in(file);
  return json::parse(in);
}

class golden_tokenizer : public testing::TestWithParam<std::string> {};

TEST_P(golden_tokenizer, gives_the_ids_and_texts_of_the_tokenizers_package) {
  const auto tokens = load(GetParam());
  for (const auto& one : parse_file(golden / (GetParam() + ".cases.json"))) {
    const auto text = one["text"].get<std::string>();
    const auto ids = one["ids"].get<std::vector<token_id>>();
    EXPECT_EQ(tokens->encode(text), ids) << one["text"];
    EXPECT_EQ(tokens->encode(text, false), one["plain"].get<std::vector<token_id>>());
    EXPECT_EQ(tokens->decode(ids), one["decoded"].get<std::string>()) << one["text"];
    EXPECT_EQ(tokens->decode(ids, false), one["verbatim"].get<std::string>());
  }
}

TEST_P(golden_tokenizer, streams_whole_characters_that_add_up_to_decode) {
  const auto tokens = load(GetParam());
  for (const auto& one : parse_file(golden / (GetParam() + ".cases.json"))) {
    stream_decoder decoder{tokens};
    std::string streamed;
    for (const auto& id : one["ids"]) {
      const auto piece = decoder.push(id.get<token_id>());
      EXPECT_TRUE(utf8::valid(piece));
      streamed += piece;
    }
    streamed += decoder.flush();
    EXPECT_EQ(streamed, one["decoded"].get<std::string>()) << one["text"];
  }
}

TEST_P(golden_tokenizer, encodes_a_mebibyte_run_of_one_character) {
  const auto tokens = load(GetParam());
  for (const char* unit : {"a", "=", "9", " ", "\n", "\u2581", "\u0301"}) {
    std::string text;
    while (text.size() < (1 << 20))
      text += unit;
    const auto ids = tokens->encode(text, false);
    EXPECT_LE(ids.size(), text.size() + 1); // a prefix may be added
    // What the family itself changes: `odd` drops spaces and maps unknown characters to one token.
    if (GetParam() == "odd" || tokens->decode(tokens->encode(unit, false)) != unit)
      continue;
    EXPECT_TRUE(tokens->decode(ids) == text) << GetParam() << " changed a run of '" << unit << "'";
  }
}

TEST_P(golden_tokenizer, takes_any_bytes) {
  const auto tokens = load(GetParam());
  std::string bytes;
  for (int i = 0; i < 256; ++i)
    bytes += static_cast<char>(i);
  EXPECT_TRUE(utf8::valid(tokens->decode(tokens->encode(bytes))));
  EXPECT_EQ(tokens->decode(std::vector<token_id>{-1, 1 << 30}), "");
}

INSTANTIATE_TEST_SUITE_P(families, golden_tokenizer, testing::ValuesIn(families()));

TEST(tokenizer, special_tokens_in_untrusted_text_are_plain_text) {
  const auto tokens = load("qwen2");
  const auto id = tokens->id_of("<|im_end|>");
  ASSERT_TRUE(id);
  EXPECT_EQ(tokens->encode("<|im_end|>", false).size(), 1u);
  const auto plain = tokens->encode("<|im_end|>", false, false);
  EXPECT_EQ(std::count(plain.begin(), plain.end(), *id), 0);
  EXPECT_EQ(tokens->decode(plain), "<|im_end|>");
}

TEST(tokenizer, a_continued_text_keeps_the_space_of_its_first_word) {
  const auto tokens = load("llama2");
  const auto ids = tokens->encode("people", false);
  stream_decoder fresh{tokens}, continued{tokens, true, true};
  std::string first, second;
  for (const auto id : ids) {
    first += fresh.push(id);
    second += continued.push(id);
  }
  EXPECT_EQ(first + fresh.flush(), "people");
  EXPECT_EQ(second + continued.flush(), " people");
}

std::string stream(stream_decoder decoder, const std::vector<token_id>& ids) {
  std::string out;
  for (const auto id : ids)
    out += decoder.push(id);
  return out + decoder.flush();
}

TEST(tokenizer, a_primed_decoder_continues_the_prompt) {
  const auto tokens = load("llama2");
  const auto answer = tokens->encode("people", false);
  stream_decoder after_text{tokens}, after_special{tokens};
  after_text.prime(tokens->encode("the life and the school of the child"));
  after_special.prime(std::vector<token_id>{*tokens->id_of("<s>")}); // shows nothing
  EXPECT_EQ(stream(std::move(after_text), answer), " people");
  EXPECT_EQ(stream(std::move(after_special), answer), "people");
}

TEST(tokenizer, a_primed_decoder_finishes_the_prompts_last_character) {
  for (const char* family : {"gpt2", "llama2"}) {
    const auto tokens = load(family);
    const auto ids = tokens->encode("so \U0001f642", false); // a token for each byte at its end
    const auto cut = ids.end() - 2;
    stream_decoder decoder{tokens};
    decoder.prime(std::vector<token_id>{ids.begin(), cut});
    EXPECT_EQ(stream(std::move(decoder), {cut, ids.end()}), "\U0001f642") << family;
  }
}

TEST(tokenizer, a_special_token_that_merges_spell_stays_text_in_untrusted_text) {
  const auto parsed = tokenizer::parse(
      R"({"added_tokens":[{"id":4,"content":"<s>","special":true}],"model":{"vocab":)"
      R"({"<":0,"s":1,">":2,"<s":3,"<s>":4},"merges":["< s","<s >"],"ignore_merges":true}})",
      "t.json");
  ASSERT_TRUE(parsed) << describe(parsed.error());
  EXPECT_EQ((*parsed)->encode("<s>"), std::vector<token_id>{4});
  EXPECT_EQ((*parsed)->encode("<s>", true, false), (std::vector<token_id>{0, 1, 2}));
}

TEST(tokenizer, token_bytes_may_be_part_of_a_character) {
  const auto tokens = load("gpt2");
  std::string bytes;
  for (const auto id : tokens->encode("naïve 🙂"))
    bytes += tokens->token_bytes(id);
  EXPECT_EQ(bytes, "naïve 🙂");
}

struct hostile {
  const char* name;
  const char* text;
  const char* says;
};

class hostile_tokenizer : public testing::TestWithParam<hostile> {};

TEST_P(hostile_tokenizer, gives_one_clear_error) {
  const auto parsed = tokenizer::parse(GetParam().text, "t.json");
  ASSERT_FALSE(parsed);
  const auto said = describe(parsed.error());
  EXPECT_NE(said.find(GetParam().says), std::string::npos) << said;
  EXPECT_TRUE(said.starts_with("t.json")) << said;
}

INSTANTIATE_TEST_SUITE_P(
    files, hostile_tokenizer,
    testing::Values(
        hostile{"empty", "", "not valid JSON"},
        hostile{"truncated", R"({"model":{"vocab)", "not valid JSON"},
        hostile{"list", "[]", "no `model`"},
        hostile{"unigram", R"({"model":{"type":"Unigram"}})", "'Unigram' is not supported"},
        hostile{"no_vocabulary", R"({"model":{"type":"BPE"}})", "no object `vocab`"},
        hostile{"huge_id", R"({"model":{"vocab":{"a":2147483648},"merges":[]}})",
                "id of token 'a'"},
        hostile{"negative_id", R"({"model":{"vocab":{"a":-1},"merges":[]}})", "id of token 'a'"},
        hostile{"text_id", R"({"model":{"vocab":{"a":"1"},"merges":[]}})", "id of token 'a'"},
        hostile{"twice", R"({"model":{"vocab":{"a":1,"b":1},"merges":[]}})", "have the id 1"},
        hostile{"merge_of_unknown", R"({"model":{"vocab":{"a":0},"merges":["a b"]}})", "merge 0"},
        hostile{"merge_of_three", R"({"model":{"vocab":{"a":0},"merges":["a a a"]}})", "merge 0"},
        hostile{"merge_number", R"({"model":{"vocab":{"a":0},"merges":[7]}})", "merge 0"},
        hostile{
            "bad_regex",
            R"({"pre_tokenizer":{"type":"Split","pattern":{"Regex":"(a"},"behavior":"Isolated"},)"
            R"("model":{"vocab":{},"merges":[]}})",
            "not a valid regular expression"},
        hostile{"bad_behavior",
                R"({"pre_tokenizer":{"type":"Split","pattern":{"String":"a"},"behavior":"x"},)"
                R"("model":{"vocab":{},"merges":[]}})",
                "unknown split behavior"},
        hostile{"text_for_flag",
                R"({"added_tokens":[{"id":1,"content":"x","special":"yes"}],)"
                R"("model":{"vocab":{},"merges":[]}})",
                "`added_tokens.special` must be true or false"},
        hostile{"number_for_text",
                R"({"normalizer":{"type":"Prepend","prepend":5},"model":{"vocab":{},"merges":[]}})",
                "`normalizer.prepend` must be a text"},
        hostile{"text_for_number",
                R"({"decoder":{"type":"Strip","content":" ","start":"1"},)"
                R"("model":{"vocab":{},"merges":[]}})",
                "`decoder.start` must be a whole number"},
        hostile{"huge_added_id",
                R"({"added_tokens":[{"id":4294967296,"content":"x"}],)"
                R"("model":{"vocab":{},"merges":[]}})",
                "no valid id"},
        hostile{"template_id",
                R"({"post_processor":{"type":"RobertaProcessing","sep":["x",7],"cls":["y",0]},)"
                R"("model":{"vocab":{"a":0},"merges":[]}})",
                "adds the id 7"},
        hostile{"class_set",
                R"({"pre_tokenizer":{"type":"Split","pattern":{"Regex":"[\\w&&[^a]]"},)"
                R"("behavior":"Isolated"},)"
                R"("model":{"vocab":{},"merges":[]}})",
                "&& inside the brackets"},
        hostile{"precompiled",
                R"({"normalizer":{"type":"Precompiled"},"model":{"vocab":{},"merges":[]}})",
                "'Precompiled' is not supported"},
        hostile{"unknown_step",
                R"({"normalizer":{"type":"Magic"},"model":{"vocab":{},"merges":[]}})",
                "'Magic' is not supported"}),
    [](const auto& one) { return one.param.name; });

TEST(tokenizer, merges_that_go_in_circles_end) {
  const auto parsed = tokenizer::parse(
      R"({"model":{"vocab":{"a":0,"aa":1,"aaaa":2},"merges":["a a","aa aa","a a","aa aa"]}})",
      "t.json");
  ASSERT_TRUE(parsed) << describe(parsed.error());
  EXPECT_EQ((*parsed)->encode(std::string(4096, 'a'), false), std::vector<token_id>(1024, 2));
}

TEST(tokenizer, a_catastrophic_pattern_is_given_up) {
  const auto parsed = tokenizer::parse(
      R"({"pre_tokenizer":{"type":"Split","pattern":{"Regex":"(a+)+$"},"behavior":"Isolated"},)"
      R"("model":{"vocab":{"a":0,"b":1},"merges":[]}})",
      "t.json");
  ASSERT_TRUE(parsed) << describe(parsed.error());
  EXPECT_EQ((*parsed)->encode(std::string(40, 'a') + "b", false).size(), 41u);
}

TEST(tokenizer, a_missing_file_is_named) {
  const auto loaded = tokenizer::load("/nowhere/tokenizer.json");
  ASSERT_FALSE(loaded);
  EXPECT_NE(describe(loaded.error()).find("/nowhere/tokenizer.json"), std::string::npos);
}

TEST(utf8, invalid_bytes_become_one_replacement_per_maximal_subpart) {
  EXPECT_EQ(utf8::sanitize("a\xf0\x9f\x99z\xc0\xaf\xed\xa0\x80"),
            "a\xef\xbf\xbdz\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
}

TEST(utf8, the_assembler_holds_back_half_characters) {
  utf8::assembler assembler;
  std::string out;
  assembler.push("\xf0\x9f", out);
  EXPECT_EQ(out, "");
  assembler.push("\x99\x82!", out);
  EXPECT_EQ(out, "\xf0\x9f\x99\x82!");
  assembler.push("\xe4", out);
  assembler.flush(out);
  EXPECT_EQ(out, "\xf0\x9f\x99\x82!\xef\xbf\xbd");
}

} // namespace
} // namespace troupe::engine
