#include <algorithm>
#include <map>
#include <random>

#include "engine/errors.hpp"
#include "engine/kv/block_pool.hpp"
#include "engine/kv/kv_arena.hpp"
#include "tests/engine/model/golden_model.hpp"

namespace troupe::engine {
namespace {

using ids = std::vector<token_id>;

/// What one sequence does to a pool: takes blocks for its tokens and remembers the full ones.
struct holder {
  uint64_t salt = 0;
  ids tokens;
  std::vector<int32_t> blocks;
  size_t found = 0;
};

holder begin(block_pool& pool, size_t block_size, uint64_t salt, ids tokens) {
  holder out{salt, std::move(tokens), {}, 0};
  pool.find_prefix(salt, out.tokens, out.tokens.size(), out.blocks);
  out.found = out.blocks.size();
  const auto needed = (out.tokens.size() + block_size - 1) / block_size - out.found;
  if (!pool.take(static_cast<int32_t>(needed), out.blocks)) {
    pool.give_back(out.blocks);
    return out;
  }
  for (size_t i = out.found; (i + 1) * block_size <= out.tokens.size(); ++i)
    pool.remember(salt, out.tokens, std::span{out.blocks}.first(i + 1));
  return out;
}

TEST(block_pool, a_prefix_is_found_by_whole_blocks_and_only_with_its_salt) {
  block_pool pool{8, 2, true};
  auto first = begin(pool, 2, 7, {1, 2, 3, 4, 5});
  EXPECT_EQ(first.found, 0u);
  auto same = begin(pool, 2, 7, {1, 2, 3, 9});
  EXPECT_EQ(same.found, 1u);
  EXPECT_EQ(same.blocks[0], first.blocks[0]);
  EXPECT_NE(same.blocks[1], first.blocks[1]);
  EXPECT_EQ(begin(pool, 2, 8, {1, 2}).found, 0u);
  auto shifted = begin(pool, 2, 7, {3, 4}); // the same tokens elsewhere are something else
  EXPECT_EQ(shifted.found, 0u);
}

TEST(block_pool, blocks_that_nobody_holds_are_kept_until_they_are_needed) {
  block_pool pool{4, 2, true};
  auto one = begin(pool, 2, 0, {1, 2, 3, 4});
  auto two = begin(pool, 2, 0, {5, 6});
  pool.give_back(one.blocks);
  pool.give_back(two.blocks);
  EXPECT_EQ(pool.available(), 4);
  auto third =
      begin(pool, 2, 0, {7, 8, 7, 8, 7, 8}); // one free block, and the two oldest idle ones
  EXPECT_EQ(third.blocks.size(), 3u);
  EXPECT_EQ(begin(pool, 2, 0, {5, 6}).found, 1u);
  EXPECT_EQ(pool.available(), 0);
}

TEST(block_pool, nothing_is_remembered_when_that_is_turned_off) {
  block_pool pool{4, 2, false};
  auto one = begin(pool, 2, 0, {1, 2});
  pool.give_back(one.blocks);
  EXPECT_EQ(begin(pool, 2, 0, {1, 2}).found, 0u);
}

TEST(block_pool, whatever_happens_a_found_block_holds_what_was_asked_for) {
  constexpr size_t block_size = 3;
  std::mt19937_64 random{11};
  block_pool pool{40, block_size, true};
  std::vector<holder> running;
  // What was last written to each block: the whole prefix that it ends, and the salt.
  std::map<int32_t, std::pair<uint64_t, ids>> written;
  const auto whole_prefix = [](const holder& one, size_t index) {
    return std::pair{
        one.salt,
        ids(one.tokens.begin(), one.tokens.begin() + static_cast<long>((index + 1) * block_size))};
  };
  size_t found = 0;
  for (int round = 0; round < 20'000; ++round) {
    if (!running.empty() && random() % 2) {
      std::swap(running[random() % running.size()], running.back());
      pool.give_back(running.back().blocks);
      running.pop_back();
      continue;
    }
    ids tokens(1 + random() % 14);
    for (auto& token : tokens)
      token = static_cast<token_id>(random() % 2);
    auto one = begin(pool, block_size, random() % 2, tokens);
    if (one.blocks.empty())
      continue;
    for (size_t i = 0; (i + 1) * block_size <= tokens.size(); ++i) {
      if (i < one.found)
        ASSERT_EQ(written.at(one.blocks[i]), whole_prefix(one, i));
      else
        written[one.blocks[i]] = whole_prefix(one, i);
    }
    found += one.found;
    running.push_back(std::move(one));
    std::map<int32_t, std::pair<uint64_t, ids>> held; // nobody writes where another one reads
    for (const auto& other : running)
      for (size_t i = 0; i < other.blocks.size(); ++i) {
        const auto full = (i + 1) * block_size <= other.tokens.size();
        const auto what = full ? whole_prefix(other, i) : std::pair{~uint64_t{0}, ids{round}};
        const auto [at, is_new] = held.try_emplace(other.blocks[i], what);
        ASSERT_TRUE(is_new || (full && at->second == what));
      }
  }
  EXPECT_GT(found, 1000u);
  for (auto& one : running)
    pool.give_back(one.blocks);
  EXPECT_EQ(pool.available(), pool.total());
}

class prefixes : public testing::Test {
protected:
  struct outcome {
    std::map<uint64_t, ids> tokens;
    std::map<uint64_t, uint32_t> reused;
    size_t steps = 0;
  };
  outcome run(engine& engine) const {
    outcome out;
    while (!engine.idle()) {
      const auto events = engine.step();
      ++out.steps;
      EXPECT_TRUE(events);
      for (const auto& event : *events) {
        out.tokens[event.id.number].push_back(event.token);
        out.reused[event.id.number] += event.reused;
      }
    }
    return out;
  }
  std::unique_ptr<engine> open(bool reuse, uint32_t step_tokens = 512) {
    engine_options options;
    options.block_size = 4;
    options.reuse_prefixes = reuse;
    options.step_tokens_max = step_tokens;
    return model.open(*device, options);
  }
  ids random_prompt(size_t size, uint64_t seed) const {
    std::mt19937_64 random{seed};
    ids out(size);
    for (auto& token : out)
      token = static_cast<token_id>(random() % static_cast<uint64_t>(model.config.vocab_size));
    return out;
  }
  golden::model model = golden::load("llama_gqa_tied");
  std::unique_ptr<gpu::device> device = gpu::make_cpu_device();
};

TEST_F(prefixes, reuse_changes_no_token_and_says_what_it_saved) {
  const auto shared = random_prompt(30, 1);
  outcome outcomes[2];
  for (const bool reuse : {false, true}) {
    auto engine = open(reuse);
    for (uint64_t id = 0; id < 6; ++id) {
      auto prompt = shared;
      prompt.resize(20 + id % 3 * 5);
      if (id % 2)
        prompt.push_back(static_cast<token_id>(id));
      ASSERT_FALSE(engine->add(golden::request(id, prompt, 10, 0.9f, id)));
      auto one = run(*engine);
      outcomes[reuse].tokens.merge(one.tokens);
      outcomes[reuse].reused.merge(one.reused);
    }
  }
  EXPECT_EQ(outcomes[0].tokens, outcomes[1].tokens);
  EXPECT_EQ(outcomes[1].reused[0], 0u);
  EXPECT_EQ(outcomes[1].reused[3], 20u); // 21 tokens: five blocks, and the last token anew
  EXPECT_EQ(outcomes[1].reused[2], 28u - 4u + 0u); // 30 tokens; the first so far had 25: six blocks
  for (const auto& [id, count] : outcomes[0].reused)
    EXPECT_EQ(count, 0u) << id;
}

TEST_F(prefixes, a_conversation_reuses_its_own_answers) {
  auto engine = open(true);
  auto prompt = random_prompt(10, 2);
  ASSERT_FALSE(engine->add(golden::request(1, prompt, 20, 0.7f, 3)));
  const auto answer = run(*engine).tokens[1];
  prompt.insert(prompt.end(), answer.begin(), answer.end());
  prompt.push_back(5);
  ASSERT_FALSE(engine->add(golden::request(2, prompt, 4)));
  EXPECT_EQ(run(*engine).reused[2], 28u); // of 29 computed ones; the last token had no successor
}

TEST_F(prefixes, choices_of_one_prompt_compute_it_once) {
  const auto prompt = random_prompt(60, 3);
  auto engine = open(true, 64);
  for (uint64_t id = 0; id < 8; ++id)
    ASSERT_FALSE(engine->add(golden::request(id, prompt, 6, 1.0f, id)));
  auto together = run(*engine);
  for (uint64_t id = 0; id < 8; ++id) {
    EXPECT_EQ(together.reused[id], id == 0 ? 0u : 59u); // all but the last token
    auto alone = open(false);
    ASSERT_FALSE(alone->add(golden::request(id, prompt, 6, 1.0f, id)));
    EXPECT_EQ(run(*alone).tokens[id], together.tokens[id]);
  }
  EXPECT_LE(together.steps, 8u); // the first prompt, then the last token of all others
}

TEST_F(prefixes, another_salt_shares_nothing) {
  const auto prompt = random_prompt(40, 4);
  auto engine = open(true);
  for (uint64_t id = 0; id < 2; ++id) {
    auto request = golden::request(id, prompt, 3);
    request.salt = id;
    ASSERT_FALSE(engine->add(request));
    EXPECT_EQ(run(*engine).reused[id], 0u);
  }
}

} // namespace
} // namespace troupe::engine
