#include <random>

#include "engine/batch/step_planner.hpp"
#include "engine/kv/kv_arena.hpp"
#include "tests/engine/model/golden_model.hpp"

namespace troupe::engine {
namespace {

using ids = std::vector<token_id>;

ids random_tokens(size_t size, uint64_t seed) {
  std::mt19937_64 random{seed};
  ids out(size);
  for (auto& token : out)
    token = static_cast<token_id>(random() % 50);
  return out;
}

sequence planned(uint64_t number, ids tokens, uint64_t salt = 0) {
  sequence out;
  out.size_max = tokens.size() + 100;
  out.request = golden::request(number, std::move(tokens), 100);
  out.request.salt = salt;
  return out;
}

/// One step as the engine does it: everything planned is computed, whole sequences grow by one.
size_t run_step(step_planner& planner) {
  size_t rows = 0;
  EXPECT_TRUE(planner.plan());
  for (auto& one : planner.running()) {
    rows += one.rows;
    planner.advance(one);
    if (one.missing() == 0)
      one.request.tokens.push_back(static_cast<token_id>(one.request.id.number));
  }
  return rows;
}

std::vector<uint64_t> running(const step_planner& planner) {
  std::vector<uint64_t> out;
  for (const auto& one : planner.running())
    out.push_back(one.request.id.number);
  return out;
}

using numbers = std::vector<uint64_t>;

TEST(admission, a_wait_for_a_prefix_holds_back_nobody_else) {
  step_planner planner{{.sequences_max = 8, .rows_max = 32, .block_size = 4}, 200};
  const auto prompt = random_tokens(100, 1);
  planner.add(planned(1, prompt));
  planner.add(planned(2, prompt));
  planner.add(planned(3, random_tokens(6, 2)));
  EXPECT_EQ(run_step(planner), 32u);
  EXPECT_EQ(running(planner), (numbers{1, 3}));
  EXPECT_EQ(planner.find({3, 0})->generated(), 1u); // its prompt and its first token
  for (int step = 0; step < 10 && running(planner).size() < 3; ++step) {
    // Less than what a step computes at no cost is worth no wait.
    EXPECT_LE(planner.find({1, 0})->computed, 100 - policies::step_cost::usual_free_rows);
    run_step(planner);
  }
  EXPECT_EQ(running(planner), (numbers{1, 3, 2}));
}

TEST(admission, the_choices_of_a_prompt_compute_it_once_and_one_row_each) {
  for (const size_t size : {3, 41, 42, 43, 44, 61}) {
    step_planner planner{{.sequences_max = 8, .rows_max = 64, .block_size = 4}, 200};
    const auto prompt = random_tokens(size, 3);
    for (uint64_t id = 1; id <= 8; ++id)
      planner.add(planned(id, prompt));
    if (size < policies::step_cost::usual_free_rows) { // a wait would take longer
      EXPECT_EQ(run_step(planner), 8 * size);
      continue;
    }
    EXPECT_EQ(run_step(planner), size);
    EXPECT_EQ(run_step(planner), 8u) << size; // the first one's next token, the others' last
    EXPECT_EQ(planner.moves().size(), (size - 1) % 4 == 0 ? 0u : 7u);
    EXPECT_EQ(run_step(planner), 8u);
  }
}

TEST(admission, an_urgent_prompt_goes_before_those_that_came_first) {
  step_planner planner{{.sequences_max = 8, .rows_max = 32, .block_size = 4}, 200};
  planner.add(planned(1, random_tokens(100, 1)));
  planner.add(planned(2, random_tokens(100, 2)));
  run_step(planner);
  EXPECT_EQ(planner.find({2, 0})->computed, 16u);
  auto hurried = planned(3, random_tokens(100, 3));
  hurried.request.urgent = true;
  planner.add(std::move(hurried));
  for (const size_t computed : {32, 48, 80, 96}) { // half of every other step is left to the rest
    EXPECT_EQ(run_step(planner), 32u);
    EXPECT_EQ(planner.find({3, 0})->computed, computed);
  }
  run_step(planner);
  EXPECT_EQ(planner.find({3, 0})->generated(), 1u);
  EXPECT_GE(planner.find({1, 0})->computed + planner.find({2, 0})->computed, 2 * 32u);
}

TEST(admission, urgent_prompts_leave_others_a_part_of_every_other_step) {
  step_planner planner{{.sequences_max = 8, .rows_max = 64, .block_size = 4}, 200};
  for (const uint64_t rows : {1, 8, 64})
    planner.learn_step({static_cast<double>(rows), 0}, std::chrono::milliseconds{rows});
  planner.add(planned(1, random_tokens(1, 1))); // decodes
  run_step(planner);
  planner.add(planned(2, random_tokens(200, 2)));
  auto hurried = planned(3, random_tokens(200, 3));
  hurried.request.urgent = true;
  planner.add(std::move(hurried));
  size_t with_others = 0, steps = 0;
  for (; planner.find({3, 0}) == nullptr || planner.find({3, 0})->missing() > 1; ++steps) {
    const auto* other = planner.find({2, 0});
    const auto before = other == nullptr ? 0 : other->computed;
    run_step(planner);
    with_others += planner.find({2, 0})->computed > before + 1; // one may be in the prefix cache
    ASSERT_LT(steps, 100u);
  }
  EXPECT_EQ(with_others, steps / 2);
}

TEST(admission, a_wait_keeps_its_place_and_its_blocks) {
  // 14 blocks: 10 for the first prompt, 1 + 1 for the rest and the growth of the second one.
  step_planner planner{{.sequences_max = 8, .rows_max = 16, .block_size = 4}, 14};
  const auto prompt = random_tokens(38, 4);
  planner.add(planned(1, prompt));
  planner.add(planned(2, prompt));
  planner.add(planned(3, random_tokens(6, 5))); // would take what the second one needs
  for (int step = 0; step < 4; ++step)
    run_step(planner);
  EXPECT_EQ(running(planner), (numbers{1, 2}));
  step_planner narrow{{.sequences_max = 2, .rows_max = 16, .block_size = 4}, 200};
  narrow.add(planned(1, prompt));
  narrow.add(planned(2, prompt));
  narrow.add(planned(3, random_tokens(6, 5)));
  for (int step = 0; step < 4; ++step)
    run_step(narrow);
  EXPECT_EQ(running(narrow), (numbers{1, 2}));
}

TEST(admission, who_waits_goes_on_alone_when_the_other_is_cancelled) {
  step_planner planner{{.sequences_max = 8, .rows_max = 16, .block_size = 4}, 200};
  const auto prompt = random_tokens(60, 6);
  planner.add(planned(1, prompt));
  planner.add(planned(2, prompt));
  EXPECT_EQ(run_step(planner), 16u);
  planner.remove({1, 0});
  EXPECT_EQ(run_step(planner), 16u);
  EXPECT_EQ(planner.running().front().computed, 32u); // what the first one left was found
}

TEST(admission, another_salt_neither_waits_nor_copies) {
  step_planner planner{
      {.sequences_max = 8, .rows_max = 128, .block_size = 4, .budget = {.patience = 1e6}}, 200};
  const auto prompt = random_tokens(42, 7);
  planner.add(planned(1, prompt, 1));
  planner.add(planned(2, prompt, 2));
  EXPECT_EQ(run_step(planner), 84u);
  planner.add(planned(3, prompt, 3));
  EXPECT_EQ(run_step(planner), 2u + 42u);
  EXPECT_TRUE(planner.moves().empty());
}

const sequence& running_one(const step_planner& planner, uint64_t number) {
  return *planner.find({number, 0});
}

TEST(prompts, a_short_one_need_not_wait_for_the_end_of_a_long_one) {
  step_planner planner{{.sequences_max = 8, .rows_max = 32, .block_size = 4}, 400};
  planner.add(planned(1, random_tokens(400, 8)));
  EXPECT_EQ(run_step(planner), 32u);
  planner.add(planned(2, random_tokens(200, 9)));
  planner.add(planned(3, random_tokens(12, 10)));
  EXPECT_EQ(run_step(planner), 32u);
  EXPECT_EQ(running_one(planner, 3).generated(), 1u);
  EXPECT_EQ(running_one(planner, 1).computed, 32u + 16u);
  EXPECT_EQ(running_one(planner, 2).computed, 4u); // what was left
}

TEST(prompts, the_oldest_gets_half_of_the_rows_however_many_short_ones_come) {
  step_planner planner{{.sequences_max = 64, .rows_max = 64, .block_size = 4}, 4000};
  planner.add(planned(1, random_tokens(400, 11)));
  run_step(planner);
  size_t before = running_one(planner, 1).computed;
  for (uint64_t id = 2; running_one(planner, 1).missing() > 1; ++id) {
    planner.add(planned(id, random_tokens(10, id)));
    planner.add(planned(id + 1000, random_tokens(10, id + 1000)));
    run_step(planner);
    const auto now = running_one(planner, 1).computed;
    ASSERT_GE(now - before, std::min<size_t>(8, 400 - before)); // half of the least budget
    before = now;
  }
}

class shared_prompts : public testing::TestWithParam<std::string> {
protected:
  golden::model model = golden::load(GetParam());
  std::unique_ptr<gpu::device> device = gpu::make_cpu_device();
  std::unique_ptr<engine> open(bool reuse, uint32_t rows = 512,
                               std::optional<dtype> kv_type = std::nullopt) {
    engine_options options;
    options.kv_type = kv_type;
    options.block_size = 8;
    options.step_tokens_max = rows;
    options.reuse_prefixes = reuse;
    options.draft_tokens_max = 0;
    return model.open(*device, options);
  }
};

TEST_P(shared_prompts, copies_of_blocks_change_no_text_and_save_rows) {
  constexpr uint64_t choices = 6;
  constexpr uint32_t length = 9;
  for (size_t size = 19; size <= 27; size += 2) {
    const auto kv_type = size % 4 == 1 ? std::optional{dtype::i8} : std::nullopt;
    auto prompt = model.prompt;
    while (prompt.size() < size)
      prompt.push_back(prompt[prompt.size() % 7]);
    prompt.resize(size);
    std::map<uint64_t, ids> texts[2];
    for (const bool reuse : {false, true}) {
      auto engine = open(reuse, 512, kv_type);
      for (uint64_t id = 0; id < choices; ++id)
        ASSERT_FALSE(engine->add(golden::request(id, prompt, length, 0.9f, id)));
      texts[reuse] = golden::drain(*engine);
      const auto decoding = choices * (length - 1); // the last token is chosen, not computed
      EXPECT_EQ(engine->counters().rows,
                decoding + (reuse ? size + (choices - 1) : size * choices));
      EXPECT_EQ(engine->kv_usage(), 0);
    }
    EXPECT_EQ(texts[0], texts[1]);
  }
}

TEST_P(shared_prompts, a_branch_off_in_the_middle_of_a_block_gets_that_block) {
  auto engine = open(true, 16);
  ids first = model.prompt;
  while (first.size() < 30)
    first.push_back(first[first.size() % 5]);
  auto second = first;
  second.resize(26);
  second.push_back(first[26] == 1 ? 2 : 1);
  ASSERT_FALSE(engine->add(golden::request(1, first, 30, 0.7f, 1)));
  for (int step = 0; step < 3; ++step)
    ASSERT_TRUE(engine->step());
  const auto before = engine->counters().rows;
  ASSERT_FALSE(engine->add(golden::request(2, second, 12, 0.7f, 2)));
  ASSERT_TRUE(engine->step());
  EXPECT_EQ(engine->counters().rows - before, 2u); // one each
  // The first goes on in its own block, so that the copy must be one.
  auto alone = open(false);
  ASSERT_FALSE(alone->add(golden::request(2, second, 12, 0.7f, 2)));
  const auto expected = golden::drain(*alone)[2];
  ids got;
  while (!engine->idle()) {
    const auto events = engine->step();
    ASSERT_TRUE(events);
    for (const auto& event : *events)
      if (event.id.number == 2 && event.offset > 0)
        got.push_back(event.token);
  }
  EXPECT_EQ(got, ids(expected.begin() + 1, expected.end()));
}

INSTANTIATE_TEST_SUITE_P(models, shared_prompts, testing::ValuesIn(golden::names()),
                         [](const auto& one) { return one.param; });

} // namespace
} // namespace troupe::engine
