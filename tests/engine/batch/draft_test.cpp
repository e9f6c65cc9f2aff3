#include <algorithm>
#include <random>

#include "engine/batch/step_planner.hpp"
#include "engine/kv/kv_arena.hpp"
#include "tests/engine/batch/answer.hpp"

namespace troupe::engine {
namespace {

using golden::ask;
using ids = std::vector<token_id>;

ids draft_of(const ids& tokens, size_t count) {
  ids out{99}; // must go
  look_up_draft(tokens, count, out);
  return out;
}

TEST(look_up_draft, repeats_what_followed_the_same_ending_before) {
  EXPECT_EQ(draft_of({1, 2, 3, 4, 5, 1, 2}, 3), (ids{3, 4, 5}));
  EXPECT_EQ(draft_of({1, 2, 3, 4, 5, 1, 2}, 1), (ids{3}));
  EXPECT_EQ(draft_of({1, 2, 3, 4, 1, 2}, 0), ids{});
}

TEST(look_up_draft, prefers_the_longest_ending_and_then_the_latest) {
  EXPECT_EQ(draft_of({9, 1, 2, 3, 8, 1, 2, 4, 9, 1, 2}, 1), (ids{3}));
  EXPECT_EQ(draft_of({7, 1, 2, 3, 8, 1, 2, 4, 9, 1, 2}, 1), (ids{4}));
}

TEST(look_up_draft, goes_on_with_a_repetition) {
  EXPECT_EQ(draft_of({5, 6, 7, 5, 6}, 7), (ids{7, 5, 6, 7, 5, 6, 7}));
  EXPECT_EQ(draft_of({4, 4, 4}, 3), (ids{4, 4, 4}));
}

TEST(look_up_draft, has_none_without_an_earlier_ending) {
  EXPECT_EQ(draft_of({}, 4), ids{});
  EXPECT_EQ(draft_of({1, 1}, 4), ids{});
  EXPECT_EQ(draft_of({1, 2, 3, 4}, 4), ids{});
  EXPECT_EQ(draft_of({2, 3, 1, 3}, 4), ids{}); // one token alone says too little
}

TEST(draft_pace, grows_while_all_is_right_and_pauses_ever_longer_while_all_is_wrong) {
  constexpr float worth = 0.2f;
  draft_pace pace;
  const auto first = pace.next(worth);
  ASSERT_GT(first, 0u);
  pace.learn(first, first);
  EXPECT_GT(pace.next(worth), first);
  size_t asked = 0;
  for (int step = 0; step < 4000; ++step)
    if (const auto length = pace.next(worth)) {
      pace.learn(length, 0);
      ++asked;
    }
  EXPECT_LE(asked, 25u); // pauses of 512 steps in the end
  EXPECT_GT(asked, 7u);  // but never for good
  while (pace.next(worth) == 0) {
  }
  for (int step = 0; step < 8; ++step) {
    const auto length = pace.next(worth);
    ASSERT_GT(length, 0u) << "right guesses lead to no pause";
    pace.learn(length, length);
  }
  EXPECT_GT(pace.next(worth), 8u);
}

TEST(draft_pace, guesses_of_which_a_quarter_is_right_pay_in_a_small_batch_only) {
  size_t asked[2] = {};
  for (const bool is_large : {false, true}) {
    draft_pace pace;
    const auto worth = break_even_share(is_large ? 32 : 1, policies::step_cost::usual_free_rows);
    for (int step = 0; step < 1000; ++step)
      if (pace.next(worth) > 0) {
        ++asked[is_large];
        pace.learn(2, step % 2 == 0 ? 1 : 0); // a quarter
      }
  }
  EXPECT_GT(asked[0], 500u);
  EXPECT_LT(asked[1], 100u);
}

TEST(break_even_share, counts_the_time_that_guessing_takes) {
  // A step of 4 sequences is worth 14 rows: a row more for each of them takes 4/14 of it.
  EXPECT_NEAR(break_even_share(4, 10), 4.0 / 14, 0.06);
  EXPECT_FLOAT_EQ(break_even_share(4, 10, 0.3), break_even_share(4, 10) + 0.3f);
  EXPECT_EQ(break_even_share(4, 10, 2), 1);
}

engine_options drafting(uint32_t most) {
  engine_options options;
  options.draft_tokens_max = most;
  return options;
}

class drafts : public testing::TestWithParam<std::string> {
protected:
  golden::model model = golden::load(GetParam());
  /// Text that repeats itself: there is something to look up from the first step on.
  ids repeated_prompt() const {
    auto out = model.prompt;
    out.resize(std::min<size_t>(out.size(), 12));
    const auto once = out;
    out.insert(out.end(), once.begin(), once.end());
    return out;
  }
};

TEST_P(drafts, change_neither_a_token_nor_a_logprob) {
  for (const bool reference : {true, false}) {
    auto device = reference ? gpu::make_reference_device() : gpu::make_cpu_device();
    auto plain = model.open(*device, drafting(0));
    auto guessing = model.open(*device, drafting(8));
    for (uint64_t id = 0; id < 6; ++id) {
      auto request = golden::request(id, repeated_prompt(), 40, 0.3f * static_cast<float>(id), id);
      request.sampling.top_logprobs = 2;
      request.sampling.frequency_penalty = id == 2 ? 0.5f : 0.0f;
      request.sampling.top_p = id == 3 ? 0.8f : 1.0f;
      EXPECT_EQ(ask(*plain, request), ask(*guessing, request)) << device->name() << ", " << id;
    }
    EXPECT_EQ(guessing->kv_usage(), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(models, drafts, testing::ValuesIn(golden::names()),
                         [](const auto& one) { return one.param; });

class drafting_model : public testing::Test {
protected:
  golden::model model = golden::load("llama_gqa_tied");
  std::unique_ptr<gpu::device> device = gpu::make_cpu_device();

  /// A request whose greedy answer says one token for ever.
  sequence_request monotonous(uint32_t most) const {
    auto out = golden::request(1, model.prompt, most);
    out.sampling.logit_bias = {{7, 100.0f}};
    return out;
  }
};

TEST_F(drafting_model, guesses_change_nothing_with_quantized_weights_either) {
  for (const auto quantize : {quantization::int8, quantization::int4}) {
    auto options = drafting(0);
    options.quantize = quantize;
    auto plain = model.open(*device, options);
    options.draft_tokens_max = 8;
    auto guessing = model.open(*device, options);
    for (uint64_t id = 0; id < 6; ++id) {
      auto prompt = model.prompt;
      prompt.insert(prompt.end(), model.prompt.begin(), model.prompt.end());
      auto request = golden::request(id, prompt, 40, 0.2f * static_cast<float>(id), id);
      request.sampling.top_logprobs = 1;
      EXPECT_EQ(ask(*plain, request), ask(*guessing, request));
    }
    const auto slow = ask(*plain, monotonous(40)), fast = ask(*guessing, monotonous(40));
    EXPECT_EQ(slow, fast);
    EXPECT_LT(fast.steps, slow.steps);
  }
}

TEST_F(drafting_model, right_guesses_save_steps) {
  auto plain = model.open(*device, drafting(0));
  auto guessing = model.open(*device, drafting(8));
  const auto slow = ask(*plain, monotonous(60)), fast = ask(*guessing, monotonous(60));
  EXPECT_EQ(slow, fast);
  EXPECT_EQ(slow.steps, 60u);
  EXPECT_LE(fast.steps, 12u);
}

TEST_F(drafting_model, a_text_ends_in_the_middle_of_a_guess) {
  auto guessing = model.open(*device, drafting(8));
  for (uint32_t most = 1; most <= 20; ++most)
    EXPECT_EQ(ask(*guessing, monotonous(most)).tokens, ids(most, 7));
  auto until = golden::request(1, {}, 30);
  const auto greedy = ask(*guessing, golden::request(1, model.prompt, 30)).tokens;
  // The prompt holds the answer, so that all of it is guessed, the stop token included.
  until.tokens = model.prompt;
  until.tokens.insert(until.tokens.end(), greedy.begin(), greedy.end());
  until.tokens.insert(until.tokens.end(), model.prompt.begin(), model.prompt.end());
  until.prompt_size = static_cast<uint32_t>(until.tokens.size());
  auto plain = model.open(*device, drafting(0));
  const auto whole = ask(*plain, until).tokens;
  for (const auto stop : whole) {
    until.sampling.stop_token_ids = {stop};
    const auto end = std::find(whole.begin(), whole.end(), stop) + 1;
    EXPECT_EQ(ask(*guessing, until).tokens, ids(whole.begin(), end));
  }
}

TEST_F(drafting_model, the_context_and_the_arena_bound_guesses_too) {
  auto options = drafting(8);
  options.block_size = 4;
  options.context_max = static_cast<uint32_t>(model.prompt.size()) + 11;
  options.kv_bytes = plan_kv(model.config, *model.config.type, options).block_bytes *
                     ((options.context_max + 3) / 4);
  auto tight = model.open(*device, options);
  EXPECT_EQ(ask(*tight, monotonous(60)).tokens, ids(11, 7));
}

sequence planned(uint64_t number, size_t tokens) {
  sequence out;
  out.request = golden::request(number, ids(tokens, 1), 1000); // one token: always a guess
  out.size_max = tokens + 1000;
  return out;
}

/// Computes what is planned; all guesses are wrong.
void run_step(step_planner& planner) {
  ASSERT_TRUE(planner.plan());
  for (auto& one : planner.running()) {
    if (one.rows == 0)
      continue;
    planner.advance(one, one.draft.size());
    if (one.missing() == 0)
      one.request.tokens.push_back(1);
  }
}

TEST(drafting_planner, guesses_get_only_rows_that_prompts_and_decoding_leave) {
  step_planner planner{
      {.sequences_max = 4, .rows_max = 8, .block_size = 4, .draft_max = 8, .logit_rows_max = 12},
      100};
  planner.add(planned(1, 4));
  run_step(planner);
  ASSERT_TRUE(planner.plan());
  EXPECT_EQ(planner.running().front().rows, 1u + 4u); // as many as a sequence begins with
  planner.add(planned(2, 30));
  run_step(planner);
  EXPECT_EQ(planner.running().front().rows, 1u);
  EXPECT_EQ(planner.running().back().rows, 7u);
  EXPECT_TRUE(planner.running().front().draft.empty());
}

TEST(drafting_planner, guesses_push_nobody_out_and_stay_within_the_logit_rows) {
  step_planner planner{
      {.sequences_max = 4, .rows_max = 64, .block_size = 4, .draft_max = 8, .logit_rows_max = 5},
      6};
  planner.add(planned(1, 4));
  planner.add(planned(2, 4));
  for (int step = 0; step < 3; ++step) {
    run_step(planner);
    size_t logit_rows = 0;
    for (const auto& one : planner.running()) {
      EXPECT_GT(one.rows, 0u);
      logit_rows += 1 + one.draft.size();
    }
    EXPECT_LE(logit_rows, 5u);
    EXPECT_EQ(planner.running().size(), 2u);
  }
}

} // namespace
} // namespace troupe::engine
