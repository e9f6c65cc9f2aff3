#include "storage/gguf_choice.hpp"

#include <gtest/gtest.h>

#include "storage/errors.hpp"
#include "storage/store/file_selection.hpp"

namespace troupe::storage {
namespace {

using paths = std::vector<std::string>;

/// A repository as those who quantize models make them.
const paths usual = {".gitattributes",
                     "README.md",
                     "imatrix.dat",
                     "imatrix_unsloth.gguf",
                     "mmproj-F16.gguf",
                     "Tiny-3.2-1B-BF16.gguf",
                     "Tiny-3.2-1B-IQ4_XS.gguf",
                     "Tiny-3.2-1B-Q4_0.gguf",
                     "Tiny-3.2-1B-Q4_K_M.gguf",
                     "Tiny-3.2-1B-Q4_K_S.gguf",
                     "Tiny-3.2-1B-Q8_0-00001-of-00002.gguf",
                     "Tiny-3.2-1B-Q8_0-00002-of-00002.gguf",
                     "Tiny-3.2-1B-UD-Q4_K_M.gguf",
                     "Tiny-3.2-1B-UD-Q2_K_XL.gguf"};

std::string chosen(const paths& from, gguf_choice meant = {}) {
  const auto got = choose_gguf(from, meant, "hf://o/n");
  return got ? *got : "error: " + describe(got.error());
}

TEST(gguf_choice, a_tag_is_a_whole_word_in_any_case) {
  EXPECT_EQ(chosen(usual, {"q4_k_m", ""}), "Tiny-3.2-1B-Q4_K_M.gguf");
  EXPECT_EQ(chosen(usual, {"UD-Q4_K_M", ""}), "Tiny-3.2-1B-UD-Q4_K_M.gguf");
  EXPECT_EQ(chosen(usual, {"Q2_K_XL", ""}), "Tiny-3.2-1B-UD-Q2_K_XL.gguf");
  EXPECT_EQ(chosen(usual, {"Q8_0", ""}), "Tiny-3.2-1B-Q8_0-00001-of-00002.gguf");
  for (const char* none : {"Q4_K", "Q4", "K_", "F16", "Q6_K", "8_0", "4_XS"}) {
    const auto got = choose_gguf(usual, {none, ""}, "hf://o/n");
    ASSERT_FALSE(got) << none << ": " << *got;
    EXPECT_EQ(got.error(), errc::not_found) << none;
    EXPECT_NE(describe(got.error()).find("Tiny-3.2-1B-IQ4_XS.gguf"), std::string::npos);
  }
  EXPECT_TRUE(names_quantization("tiny_q8_0.gguf", "Q8_0"));
  EXPECT_FALSE(names_quantization("tiny-IQ4_0.gguf", "Q4_0"));
  EXPECT_FALSE(names_quantization("tiny-bf16.gguf", "F16"));
  EXPECT_FALSE(names_quantization("tiny", ""));
}

TEST(gguf_choice, without_any_the_usual_quantization_is_meant) {
  EXPECT_EQ(chosen(usual), "Tiny-3.2-1B-Q4_K_M.gguf");
  EXPECT_EQ(chosen({"a-Q8_0.gguf", "a-F16.gguf"}), "a-Q8_0.gguf");
  EXPECT_EQ(chosen({"a-Q5_K_M.gguf", "mmproj-a-Q8_0.gguf"}), "a-Q5_K_M.gguf");
  const auto none = chosen({"a-Q5_K_M.gguf", "a-F16.gguf"});
  EXPECT_NE(none.find("a-F16.gguf"), std::string::npos) << none;
  EXPECT_NE(none.find("hf://org/name:Q5_K_M"), std::string::npos) << none;
  // Two models in one place: neither is the usual one.
  EXPECT_EQ(choose_gguf({"a-Q4_K_M.gguf", "b-Q4_K_M.gguf"}, {}, "o").error(), errc::unsupported);
  EXPECT_EQ(choose_gguf({"README.md"}, {}, "o").error(), errc::unsupported);
}

TEST(gguf_choice, models_may_lie_in_directories) {
  const paths large = {"README.md", "BF16/m-00001-of-00002.gguf", "BF16/m-00002-of-00002.gguf",
                       "Q4_K_M/m-Q4_K_M-00001-of-00002.gguf",
                       "Q4_K_M/m-Q4_K_M-00002-of-00002.gguf"};
  EXPECT_EQ(chosen(large), "Q4_K_M/m-Q4_K_M-00001-of-00002.gguf");
  EXPECT_EQ(chosen(large, {"bf16", ""}), "BF16/m-00001-of-00002.gguf");
  EXPECT_EQ(chosen({"m-F16.gguf", "old/m-Q4_K_M.gguf"}), "m-F16.gguf");
  EXPECT_EQ(chosen({"m-F16.gguf", "old/m-Q4_K_M.gguf"}, {"Q4_K_M", ""}), "old/m-Q4_K_M.gguf");
}

TEST(gguf_choice, a_file_is_taken_as_it_is_named) {
  EXPECT_EQ(chosen(usual, {"", "Tiny-3.2-1B-Q4_0.gguf"}), "Tiny-3.2-1B-Q4_0.gguf");
  EXPECT_EQ(chosen(usual, {"", "Tiny-3.2-1B-Q8_0-00002-of-00002.gguf"}),
            "Tiny-3.2-1B-Q8_0-00001-of-00002.gguf");
  EXPECT_EQ(choose_gguf(usual, {"", "q4_0.gguf"}, "o").error(), errc::not_found);
}

TEST(gguf_choice, nothing_else_of_the_repository_is_fetched_but_small_texts) {
  std::vector<source_file> all;
  for (const auto& path : usual)
    all.push_back({path, 1000, "v", {}});
  all.push_back({"tokenizer.json", uint64_t{20} << 20, "v", {}});
  const auto names = [&](const gguf_choice& meant) {
    std::string out;
    const auto got = files_to_serve(all, "", "o", meant);
    if (!got)
      return describe(got.error());
    for (const auto& file : *got)
      out += file.path + " ";
    return out;
  };
  EXPECT_EQ(names({"Q8_0", ""}), "README.md Tiny-3.2-1B-Q8_0-00001-of-00002.gguf "
                                 "Tiny-3.2-1B-Q8_0-00002-of-00002.gguf ");
  EXPECT_EQ(names({}), "README.md Tiny-3.2-1B-Q4_K_M.gguf ");
  all.push_back({"model.safetensors", 1000, "v", {}});
  EXPECT_EQ(names({"Q4_0", ""}), "README.md Tiny-3.2-1B-Q4_0.gguf ");
  EXPECT_NE(names({}).find("model.safetensors"), std::string::npos);
  std::erase_if(all, [](const auto& x) { return x.path.ends_with("-00002-of-00002.gguf"); });
  EXPECT_NE(names({"Q8_0", ""}).find("only 1 of the 2 files"), std::string::npos);
}

} // namespace
} // namespace troupe::storage
