#include <random>

#include "engine/batch/step_planner.hpp"
#include "engine/kv/kv_arena.hpp"
#include "tests/engine/model/golden_model.hpp"

namespace troupe::engine {
namespace {

using ids = std::vector<token_id>;

class pushed_out : public testing::TestWithParam<std::string> {
protected:
  struct outcome {
    std::map<uint64_t, ids> texts;
    engine_counters counters;
  };

  /// Four sequences in an arena of `blocks` blocks.
  outcome run(engine_options options, uint64_t blocks) {
    options.block_size = 4;
    options.draft_tokens_max = 0;
    options.kv_bytes =
        plan_kv(model.config, model.config.type.value_or(dtype::bf16), options).block_bytes *
        blocks;
    auto engine = model.open(*device, options);
    for (uint64_t id = 1; id <= 4; ++id) {
      auto prompt = model.prompt; // none shares a block with another one
      prompt[0] = static_cast<token_id>(id);
      EXPECT_FALSE(engine->add(golden::request(id, prompt, 30, 0.8f, id)));
    }
    outcome out{golden::drain(*engine), engine->counters()};
    EXPECT_EQ(engine->kv_usage(), 0);
    EXPECT_EQ(out.counters.swap_bytes, 0u);
    return out;
  }
  uint64_t tight() const { return (model.prompt.size() + 40) / 4 + 6; } // not two whole sequences

  golden::model model = golden::load(GetParam());
  std::unique_ptr<gpu::device> device = gpu::make_cpu_device();
};

TEST_P(pushed_out, sequences_go_on_as_before_when_recomputed_and_when_swapped) {
  for (const auto kv_type : {std::optional<dtype>{}, std::optional{dtype::i8}}) {
    engine_options options;
    options.kv_type = kv_type;
    const auto calm = run(options, 1000);
    EXPECT_EQ(calm.counters.recomputed + calm.counters.swapped, 0u);
    options.preempt = preemption::recompute;
    const auto recomputed = run(options, tight());
    options.preempt = preemption::swap;
    const auto swapped = run(options, tight());
    EXPECT_EQ(recomputed.texts, calm.texts);
    EXPECT_EQ(swapped.texts, calm.texts);
    EXPECT_GT(recomputed.counters.recomputed, 0u);
    EXPECT_EQ(recomputed.counters.swapped, 0u);
    EXPECT_GT(recomputed.counters.rows, calm.counters.rows);
    EXPECT_GT(swapped.counters.swapped, 0u);
    EXPECT_EQ(swapped.counters.recomputed, 0u);
    EXPECT_EQ(swapped.counters.rows, calm.counters.rows); // nothing twice
  }
}

TEST_P(pushed_out, sequences_are_recomputed_where_the_host_has_no_room) {
  engine_options options;
  const auto calm = run(options, 1000);
  options.preempt = preemption::swap;
  options.swap_bytes = 0;
  const auto none = run(options, tight());
  EXPECT_EQ(none.texts, calm.texts);
  EXPECT_EQ(none.counters.swapped, 0u);
  EXPECT_GT(none.counters.recomputed, 0u);
}

INSTANTIATE_TEST_SUITE_P(models, pushed_out,
                         testing::Values("llama_gqa_tied", "qwen3", "mistral_window", "llama_f16"),
                         [](const auto& one) { return one.param; });

sequence planned(uint64_t number, ids tokens) {
  sequence out;
  out.size_max = tokens.size() + 200;
  out.request = golden::request(number, std::move(tokens), 200);
  return out;
}

/// One step as the engine does it: everything planned is computed, whole sequences grow by one.
void compute_step(step_planner& planner) {
  ASSERT_TRUE(planner.plan());
  for (auto& one : planner.running()) {
    planner.advance(one);
    if (one.rows > 0 && one.missing() == 0)
      one.request.tokens.push_back(3);
  }
}

TEST(swapping, is_chosen_where_copies_take_less_time_than_rows) {
  for (const bool copies_fast : {false, true}) {
    step_planner planner{
        {.sequences_max = 4, .rows_max = 64, .block_size = 4, .swap_slots = 8, .block_bytes = 1000},
        12};
    for (int i = 0; i < 50; ++i) {
      planner.learn_step({1.0 + i, 0}, std::chrono::microseconds{1000 + 100 * i}); // 0.1 ms a row
      planner.learn_copying(1000, std::chrono::microseconds{copies_fast ? 1 : 1000}); // 4 rows
    }
    planner.add(planned(1, ids(12, 1)));
    planner.add(planned(2, ids(12, 2)));
    while (planner.swapped() + planner.recomputed() == 0)
      compute_step(planner);
    EXPECT_EQ(planner.swapped(), copies_fast ? 1u : 0u);
  }
}

TEST(swapping, a_cancelled_sequence_frees_its_slots_and_a_shared_beginning_is_not_saved) {
  step_planner planner{{.sequences_max = 4,
                        .rows_max = 64,
                        .block_size = 4,
                        .preempt = preemption::swap,
                        .swap_slots = 8},
                       8};
  ids first(12, 1), second(12, 1);
  second[8] = second[9] = 2; // two blocks are shared
  planner.add(planned(1, first));
  compute_step(planner);
  planner.add(planned(2, second));
  while (planner.running().size() < 2)
    compute_step(planner);
  while (planner.swapped() == 0)
    compute_step(planner);
  ASSERT_EQ(planner.waiting().size(), 1u);
  const auto& victim = planner.waiting().front();
  EXPECT_EQ(victim.request.id.number, 2u); // the youngest
  EXPECT_EQ(victim.saved_after, 2u);
  EXPECT_EQ(planner.slots_in_use(), victim.saved.size());
  EXPECT_GT(victim.saved.size(), 0u);
  planner.remove({2, 0});
  EXPECT_EQ(planner.slots_in_use(), 0u);
}

/// What a block or a slot holds: token by token, of whom.
struct contents {
  std::map<int32_t, std::vector<std::pair<uint64_t, size_t>>> blocks, slots;
};

TEST(step_planner_property, decoding_rows_are_never_starved_and_blocks_hold_what_is_computed) {
  constexpr size_t block_size = 4;
  std::mt19937_64 random{7};
  for (int round = 0; round < 30; ++round) {
    step_limits limits{.sequences_max = 6, .rows_max = 24, .block_size = block_size};
    limits.budget.prompt_rows_min = 3;
    limits.budget.target = std::chrono::milliseconds{random() % 3 * 20};
    limits.preempt = static_cast<preemption>(random() % 3);
    limits.swap_slots = static_cast<uint32_t>(random() % 40);
    limits.block_bytes = 1 << 16;
    limits.reuse_prefixes = random() % 2 == 0;
    step_planner planner{limits, 30};
    contents held;
    uint64_t next_id = 0;
    std::map<uint64_t, size_t> ended;
    for (int step = 0; step < 400; ++step) {
      if (random() % 3 == 0 && planner.waiting().size() < 10) {
        ids tokens(1 + random() % 50, static_cast<token_id>(random() % 2));
        planner.add(planned(++next_id, tokens));
      }
      std::map<uint64_t, bool> decodes;
      for (const auto& one : planner.running())
        decodes[one.request.id.number] = one.missing() == 1;
      if (!planner.plan())
        continue;
      for (const auto& move : planner.moves()) {
        if (move.how == block_move::way::copy)
          held.blocks[move.to] = held.blocks[move.from];
        else if (move.how == block_move::way::save)
          held.slots[move.to] = held.blocks[move.from];
        else
          held.blocks[move.to] = held.slots[move.from];
      }
      uint32_t rows = 0, prompt_rows = 0;
      for (auto one = planner.running().begin(); one != planner.running().end();) {
        const auto here = one++;
        const auto number = here->request.id.number;
        rows += here->rows;
        if (decodes[number]) {
          ASSERT_EQ(here->rows, 1u) << "a decoding sequence waits";
        } else {
          prompt_rows += here->rows;
        }
        for (size_t at = 0; at < here->computed + here->rows; ++at) {
          auto& block = held.blocks[here->blocks[at / block_size]];
          block.resize(block_size);
          auto& token = block[at % block_size];
          const std::pair<uint64_t, size_t> mine{static_cast<uint64_t>(here->request.tokens[at]),
                                                 at + 1};
          if (at >= here->computed)
            token = mine;
          else
            ASSERT_EQ(token, mine) << "a block lost what it held";
        }
        planner.advance(*here);
        if (here->rows == 0 || here->missing() > 0)
          continue;
        here->request.tokens.push_back(static_cast<token_id>(number % 2));
        if (here->generated() > random() % 40) {
          ++ended[number];
          planner.retire(here);
        }
      }
      ASSERT_LE(rows, limits.rows_max);
      planner.learn_step(planner.shape(), std::chrono::microseconds{500 + random() % 5000});
      planner.learn_copying(1 << 16, std::chrono::microseconds{1 + random() % 100});
    }
    EXPECT_GT(ended.size(), 20u) << "round " << round;
  }
}

} // namespace
} // namespace troupe::engine
