#include <filesystem>
#include <thread>

#include <gtest/gtest.h>

#include "engine/tokenizer/tokenizer.hpp"

namespace troupe::engine {
namespace {

TEST(tokenizer_threads, more_threads_than_cache_shards_encode_the_same) {
  const auto file =
      std::filesystem::path{TROUPE_SOURCE_DIR} / "tests" / "golden" / "tokenizers" / "llama3.json";
  const auto loaded = tokenizer::load(file);
  ASSERT_TRUE(loaded) << describe(loaded.error());
  const auto& tokens = *loaded;
  std::vector<std::string> texts;
  std::vector<std::vector<token_id>> expected;
  for (int i = 0; i < 100; ++i) {
    texts.push_back("the people of year " + std::to_string(i * 7919) + " went <|eot_id|> home");
    expected.push_back((*tokenizer::load(file))->encode(texts.back())); // no memory of other texts
  }
  std::vector<std::thread> threads;
  std::vector<int> wrong(12);
  for (auto& mine : wrong)
    threads.emplace_back([&] {
      for (size_t round = 0; round < 5; ++round)
        for (size_t i = 0; i < texts.size(); ++i)
          mine += tokens->encode(texts[i]) != expected[i] || tokens->decode(expected[i]).empty();
    });
  for (auto& thread : threads)
    thread.join();
  EXPECT_EQ(wrong, std::vector<int>(12));
}

} // namespace
} // namespace troupe::engine
