#include <algorithm>
#include <cmath>
#include <random>

#include "engine/batch/step_planner.hpp"
#include "engine/errors.hpp"
#include "engine/kv/kv_arena.hpp"
#include "tests/engine/model/golden_model.hpp"
#include "tests/engine/model/poisoned_model.hpp"

namespace troupe::engine {
namespace {

class batching : public testing::Test {
protected:
  static std::unique_ptr<gpu::device> make_device() {
    gpu::device_options options;
    options.threads = 2;
    return gpu::make_cpu_device(options);
  }
  /// The tokens that the sequence gets when it has the engine for itself.
  std::vector<token_id> undisturbed(const sequence_request& request) {
    auto engine = model.open(*device);
    EXPECT_FALSE(engine->add(request));
    return golden::drain(*engine)[request.id.number];
  }
  golden::model model = golden::load("llama_gqa_tied");
  std::unique_ptr<gpu::device> device = make_device();
};

void run_dry(engine& engine) {
  while (!engine.idle())
    ASSERT_TRUE(engine.step());
}

TEST_F(batching, a_sequence_with_bad_numbers_fails_alone) {
  const token_id poison = model.prompt[0] == 3 ? 4 : 3;
  auto sound = golden::request(1, model.prompt, 12, 0.8f, 5);
  ASSERT_EQ(std::count(sound.tokens.begin(), sound.tokens.end(), poison), 0);
  sound.sampling.logit_bias = {{poison, -100.0f}};
  const auto expected = undisturbed(sound);
  golden::poisoned_token poisoned{model,
                                  poison}; // outlives the engine, which reads its weights in place
  auto engine = poisoned.open(*device);
  ASSERT_TRUE(engine);
  ASSERT_FALSE(engine->add(sound));
  auto sick = golden::request(2, {model.prompt[0], poison}, 12);
  sick.epoch = 9;
  ASSERT_FALSE(engine->add(sick));
  EXPECT_EQ(golden::drain(*engine)[1], expected);
  const auto failures = engine->take_failures();
  ASSERT_EQ(failures.size(), 1u);
  EXPECT_EQ(failures[0].id, sick.id);
  EXPECT_EQ(failures[0].epoch, 9u);
  EXPECT_NE(describe(failures[0].why).find("not numbers"), std::string::npos);
  EXPECT_TRUE(engine->take_failures().empty());
  EXPECT_EQ(engine->kv_usage(), 0);
}

TEST_F(batching, an_overtaken_dispatch_does_not_replace_a_newer_one) {
  auto engine = model.open(*device);
  auto newer = golden::request(1, model.prompt, 3);
  newer.epoch = 4;
  ASSERT_FALSE(engine->add(newer));
  auto older = newer;
  older.epoch = 3;
  EXPECT_EQ(engine->add(older), errc::stale);
  ASSERT_TRUE(engine->step());
  EXPECT_EQ(engine->add(older), errc::stale); // running by now
  auto newest = newer;
  newest.epoch = 5;
  ASSERT_FALSE(engine->add(newest));
  EXPECT_EQ(engine->running() + engine->waiting(), 1u);
  while (!engine->idle()) {
    const auto events = engine->step();
    ASSERT_TRUE(events);
    for (const auto& event : *events)
      EXPECT_EQ(event.epoch, 5u);
  }
}

TEST_F(batching, the_queue_has_an_end) {
  engine_options options;
  options.sequences_max = 1;
  options.waiting_max = 2;
  auto engine = model.open(*device, options);
  ASSERT_FALSE(engine->add(golden::request(1, model.prompt, 3)));
  ASSERT_FALSE(engine->add(golden::request(2, model.prompt, 3)));
  EXPECT_EQ(engine->add(golden::request(3, model.prompt, 3)), errc::busy);
  ASSERT_TRUE(engine->step()); // the first leaves the queue
  EXPECT_FALSE(engine->add(golden::request(3, model.prompt, 3)));
  run_dry(*engine);
}

TEST_F(batching, room_shrinks_with_the_blocks_that_are_left) {
  engine_options options;
  options.block_size = 4;
  options.kv_bytes = plan_kv(model.config, dtype::f32, options).block_bytes * 10;
  options.kv_type = dtype::f32;
  auto engine = model.open(*device, options);
  EXPECT_GE(engine->room(), 1u);
  EXPECT_LE(engine->room(), 5u); // not the 64 places of a batch
  ASSERT_FALSE(engine->add(golden::request(1, std::vector<token_id>(30, 1), 8)));
  ASSERT_TRUE(engine->step());
  EXPECT_EQ(engine->room(), 0u);
  run_dry(*engine);
  EXPECT_GE(engine->room(), 1u);
}

TEST_F(batching, options_out_of_range_are_refused_by_name) {
  const auto refused = [&](const char* name, auto change) {
    engine_options options;
    change(options);
    const auto made = engine::create(model.config, model.lookup(), nullptr, *device, options);
    ASSERT_FALSE(made) << name;
    EXPECT_EQ(made.error(), errc::invalid_argument);
    EXPECT_NE(describe(made.error()).find(name), std::string::npos) << describe(made.error());
  };
  refused("block_size", [](auto& x) { x.block_size = 0; });
  refused("block_size", [](auto& x) { x.block_size = 1u << 31; });
  refused("sequences_max", [](auto& x) { x.sequences_max = 0; });
  refused("sequences_max", [](auto& x) { x.sequences_max = ~0u; });
  refused("step_tokens_max", [](auto& x) { x.step_tokens_max = ~0u; });
  refused("waiting_max", [](auto& x) { x.waiting_max = 0; });
  refused("kv_type", [](auto& x) { x.kv_type = dtype::f16; });
}

TEST_F(batching, more_min_tokens_than_max_tokens_are_refused) {
  auto engine = model.open(*device);
  auto request = golden::request(1, model.prompt, 4);
  request.sampling.min_tokens = 5;
  const auto why = engine->add(request);
  ASSERT_TRUE(why);
  EXPECT_NE(describe(why).find("min_tokens"), std::string::npos);
}

TEST_F(batching, a_prompt_in_chunks_of_one_token_and_a_resume_at_every_offset_change_nothing) {
  for (const bool reference : {true, false}) {
    auto computes = reference ? gpu::make_reference_device() : make_device();
    const auto request = golden::request(1, model.prompt, 12, 1.0f, 7);
    auto whole = model.open(*computes);
    ASSERT_FALSE(whole->add(request));
    const auto expected = golden::drain(*whole)[1];
    engine_options options;
    options.sequences_max = 1;
    options.step_tokens_max = 1;
    auto slow = model.open(*computes, options);
    for (size_t at = 0; at < expected.size(); ++at) {
      auto again = request;
      again.tokens.insert(again.tokens.end(), expected.begin(),
                          expected.begin() + static_cast<long>(at));
      ASSERT_FALSE(slow->add(again));
      std::vector<token_id> rest(expected.begin(), expected.begin() + static_cast<long>(at));
      while (!slow->idle()) {
        const auto events = slow->step();
        ASSERT_TRUE(events);
        ASSERT_LE(events->size(), 1u);
        for (const auto& event : *events)
          rest.push_back(event.token);
      }
      EXPECT_EQ(rest, expected) << computes->name() << ", resumed at " << at;
    }
  }
}

/// What a storm knows of one sequence.
struct tracked {
  sequence_request request;
  std::vector<token_id> expected, got;
  bool held = false, ended = false;
};

sequence_request next_dispatch(tracked& one) {
  auto request = one.request;
  request.epoch = ++one.request.epoch;
  request.tokens.insert(request.tokens.end(), one.got.begin(), one.got.end());
  return request;
}

TEST_F(batching, a_storm_of_adds_cancels_resumes_and_preemptions_changes_no_text) {
  engine_options options;
  options.block_size = 4;
  options.sequences_max = 5;
  options.step_tokens_max = 9;
  options.kv_bytes = plan_kv(model.config, *model.config.type, options).block_bytes * 24;
  auto engine = model.open(*device, options);
  std::mt19937_64 random{2026};
  std::vector<tracked> all(14);
  for (size_t i = 0; i < all.size(); ++i) {
    auto prompt = model.prompt;
    prompt.resize(1 + random() % prompt.size());
    const auto most = static_cast<uint32_t>(1 + random() % 40);
    all[i].request = golden::request(i, prompt, most, i % 3 == 0 ? 0.0f : 0.9f, random());
    all[i].expected = undisturbed(all[i].request);
  }
  const auto unfinished = [&] {
    return std::any_of(all.begin(), all.end(), [](const tracked& x) { return !x.ended; });
  };
  for (int step = 0; unfinished(); ++step) {
    ASSERT_LT(step, 20'000) << "no progress";
    for (auto& one : all) {
      if (one.ended || random() % 4 != 0)
        continue;
      if (!one.held || random() % 40 == 0) {
        ASSERT_FALSE(engine->add(next_dispatch(one))); // anew, or instead of the one that runs
        one.held = true;
      } else if (random() % 60 == 0) {
        engine->cancel(one.request.id);
        one.held = false;
      }
    }
    const auto events = engine->step();
    ASSERT_TRUE(events) << describe(events.error());
    for (const auto& event : *events) {
      auto& one = all[event.id.number];
      ASSERT_EQ(event.epoch, one.request.epoch);
      ASSERT_EQ(event.offset, one.got.size());
      one.got.push_back(event.token);
      one.ended = event.finish != finish_reason::none;
    }
  }
  for (const auto& one : all)
    EXPECT_EQ(one.got, one.expected);
  EXPECT_TRUE(engine->idle());
  EXPECT_EQ(engine->kv_usage(), 0);
}

/// No two begin alike.
sequence planned(uint64_t number, size_t tokens) {
  sequence out;
  const auto filling = static_cast<token_id>(number);
  out.request = golden::request(number, std::vector<token_id>(tokens, filling), 100);
  return out;
}

/// One step as the engine does it: everything planned is computed, whole sequences grow by one.
size_t run_step(step_planner& planner) {
  size_t rows = 0;
  EXPECT_TRUE(planner.plan());
  for (auto& one : planner.running()) {
    rows += one.rows;
    one.computed += one.rows;
    if (one.rows > 0 && one.missing() == 0)
      one.request.tokens.push_back(1);
  }
  return rows;
}

TEST(step_planner, decoding_rows_come_before_any_prompt) {
  step_planner planner{{.sequences_max = 8, .rows_max = 8, .block_size = 4}, 100};
  planner.add(planned(1, 2));
  planner.add(planned(2, 3));
  EXPECT_EQ(run_step(planner), 5u);
  planner.add(planned(3, 30));
  for (int step = 0; step < 5; ++step) {
    ASSERT_EQ(run_step(planner), 8u);
    auto one = planner.running().begin();
    EXPECT_EQ((one++)->rows, 1u);
    EXPECT_EQ((one++)->rows, 1u);
    EXPECT_EQ(one->rows, 6u);
  }
}

TEST(step_planner, a_sequence_that_was_pushed_out_comes_back_only_with_blocks_to_grow_into) {
  step_planner planner{{.sequences_max = 8, .rows_max = 64, .block_size = 4}, 10};
  planner.add(planned(1, 8));
  planner.add(planned(2, 8));
  size_t computed = 0;
  for (int step = 0; step < 24; ++step)
    computed += run_step(planner);
  // Both prompts once, a row for each token, and the younger one's recomputation a single time:
  // with nothing to spare it would be recomputed each time that the older fills a block.
  EXPECT_EQ(planner.running().front().request.id.number, 1u);
  EXPECT_EQ(planner.waiting().size(), 1u);
  EXPECT_LE(computed, 8u + 8u + 2 * 24u);
}

} // namespace
} // namespace troupe::engine
