#include <algorithm>
#include <random>

#include "engine/kv/kv_arena.hpp"
#include "engine/kv/kv_memory.hpp"
#include "engine/model/workspace.hpp"
#include "tests/engine/batch/answer.hpp"

/// Several models that borrow from one KV memory.
namespace troupe::engine {
namespace {

using ids = std::vector<token_id>;

/// A run that a borrower has, filled with a number of its own.
class numbered_runs final : public kv_borrower {
public:
  numbered_runs(kv_memory& memory, int32_t spans, unsigned char first)
      : memory_{memory}, spans_{spans}, next_{first} {
    memory.join(*this);
  }
  ~numbered_runs() override { memory_.leave(*this); }

  policies::kv_holding holding() const override {
    return {.held = runs_.size() * static_cast<uint64_t>(spans_)};
  }
  void give_up_spare() override {}
  void push_out() override {}
  void moved(int32_t slot, int32_t first) override {
    runs_.at(slot).first = first;
    ++moves;
  }
  bool borrow() {
    policies::kv_plea plea;
    plea.spans = static_cast<uint64_t>(spans_);
    const auto got = memory_.lend(*this, next_slot_, plea);
    if (got.how != policies::kv_relief::borrow)
      return false;
    EXPECT_EQ(got.first % spans_, 0);
    runs_[next_slot_++] = {got.first, next_};
    std::fill_n(at(got.first), size(), std::byte{next_++});
    return true;
  }
  void give_back(size_t index) {
    const auto run = std::next(runs_.begin(), static_cast<ptrdiff_t>(index % runs_.size()));
    memory_.give_back(run->second.first);
    runs_.erase(run);
  }
  size_t count() const { return runs_.size(); }
  void expect_untouched() const {
    for (const auto& [slot, run] : runs_)
      EXPECT_TRUE(std::all_of(at(run.first), at(run.first) + size(),
                              [&](std::byte one) { return one == std::byte{run.number}; }));
  }

  size_t moves = 0;

private:
  struct run {
    int32_t first = 0;
    unsigned char number = 0;
  };
  std::byte* at(int32_t first) const {
    return memory_.base() + static_cast<uint64_t>(first) * memory_.span_bytes();
  }
  size_t size() const { return static_cast<size_t>(spans_) * memory_.span_bytes(); }

  kv_memory& memory_;
  int32_t spans_;
  unsigned char next_;
  int32_t next_slot_ = 0;
  std::map<int32_t, run> runs_;
};

TEST(kv_memory, runs_of_all_sizes_find_room_as_long_as_there_are_free_spans) {
  const auto device = gpu::make_reference_device();
  auto memory = kv_memory::create(*device, 24 * 256, 256);
  ASSERT_TRUE(memory);
  std::mt19937_64 random{3};
  size_t moves = 0;
  {
    numbered_runs ones{**memory, 1, 0}, twos{**memory, 2, 100}, fours{**memory, 4, 200};
    for (int round = 0; round < 3000; ++round) {
      auto* who = &ones;
      if (const auto pick = random() % 3; pick > 0)
        who = pick == 1 ? &twos : &fours;
      const uint64_t spans = who == &ones ? 1 : who == &twos ? 2 : 4;
      if (random() % 2 == 0 && who->count() > 0)
        who->give_back(random());
      else if (const bool has_room = spans <= (*memory)->free_spans(); has_room != who->borrow())
        ADD_FAILURE() << "round " << round << ": " << spans << " spans";
      for (const auto* one : {&ones, &twos, &fours})
        one->expect_untouched();
      EXPECT_EQ((*memory)->spans() - (*memory)->free_spans(),
                ones.count() + 2 * twos.count() + 4 * fours.count());
    }
    moves = ones.moves + twos.moves;
  }
  EXPECT_GT(moves, 100u);
  EXPECT_EQ((*memory)->borrowed_bytes(), 0u); // they gave all back when they went
}

TEST(kv_memory, spans_are_4_MiB_or_small_enough_to_be_shared) {
  const auto device = gpu::make_cpu_device();
  EXPECT_EQ((*kv_memory::create(*device, uint64_t{1} << 30))->span_bytes(), 4u << 20);
  const auto small = *kv_memory::create(*device, 1 << 20);
  EXPECT_EQ(small->span_bytes(), 16u << 10);
  EXPECT_EQ(small->size_bytes(), 1u << 20);
}

class shared_kv : public testing::Test {
protected:
  struct member {
    golden::model model;
    engine_options options;
    bool has_draft = false;
    uint32_t epoch = 0; ///< of the last resume
    std::unique_ptr<engine> runs;
    std::map<uint64_t, sequence_request> requests;
    std::map<uint64_t, ids> expected, got;
  };

  /// Bytes of a sequence of that many tokens.
  static uint64_t bytes_of(const member& of, size_t tokens) {
    const auto shape =
        plan_kv(of.model.config, of.model.config.type.value_or(dtype::bf16), of.options);
    return (tokens / of.options.block_size + 1) * shape.block_bytes;
  }
  std::unique_ptr<engine> open(const member& of, device_share share) {
    const draft_source source{std::make_shared<const model_config>(draft.config), draft.lookup(),
                              draft.checkpoint};
    const auto* guesses = of.has_draft && share.kv ? &source : nullptr;
    auto made = engine::create(of.model.config, of.model.lookup(), of.model.checkpoint, *device,
                               of.options, guesses, std::move(share));
    EXPECT_TRUE(made) << describe(made.error());
    return made ? std::move(*made) : nullptr;
  }
  member make(const std::string& name, uint64_t requests, std::mt19937_64& random) {
    member out;
    out.model = golden::load(name);
    out.options.block_size = 4;
    out.options.sequences_max = 4;
    out.options.step_tokens_max = 16;
    out.options.preempt = static_cast<preemption>(random() % 3);
    out.options.kv_bytes = uint64_t{1} << 30;
    auto alone = open(out, {});
    for (uint64_t id = 0; id < requests; ++id) {
      auto prompt = out.model.prompt;
      prompt.resize(4 + random() % (prompt.size() - 4));
      out.requests[id] =
          golden::request(id, prompt, 1 + random() % 40, id % 2 == 0 ? 0.0f : 0.9f, random());
      out.expected[id] = golden::ask(*alone, out.requests[id]).tokens;
    }
    return out;
  }
  /// Goes on with what there is of a text, unless that is all of it.
  static void resume(member& one, uint64_t id) {
    const auto& text = one.got[id];
    if (text.size() >= one.requests[id].sampling.max_tokens)
      return;
    auto again = one.requests[id];
    again.epoch = ++one.epoch;
    again.tokens.insert(again.tokens.end(), text.begin(), text.end());
    EXPECT_FALSE(one.runs->add(again));
  }
  static void take(member& to, std::span<token_event> events) {
    for (const auto& event : events) {
      EXPECT_EQ(event.offset, to.got[event.id.number].size());
      to.got[event.id.number].push_back(event.token);
    }
  }

  golden::model draft = golden::load("llama_mha");
  std::unique_ptr<gpu::device> device = gpu::make_cpu_device();
};

// Sequences of four models come, go and come back, and now and then a model, in an arena that holds
// one or two of them: every text is the one that its model writes alone.
TEST_F(shared_kv, a_storm_of_several_models_over_a_small_arena_changes_no_text) {
  uint64_t pushed_out = 0;
  for (const uint64_t seed : {1, 2, 3}) {
    std::mt19937_64 random{seed};
    std::vector<member> members;
    uint64_t largest = 0;
    for (const auto* name : {"llama_gqa_tied", "qwen3", "mistral_window", "llama_f16"}) {
      members.push_back(make(name, 12, random));
      auto& one = members.back();
      largest = std::max(largest, bytes_of(one, one.model.prompt.size() + 42));
    }
    members[0].has_draft = true;
    auto memory = kv_memory::create(*device, largest * 3 / 2, seed == 1 ? 1024 : 4096);
    ASSERT_TRUE(memory) << describe(memory.error());
    const device_share share{*memory, std::make_shared<workspace>(*device)};
    for (auto& one : members)
      one.runs = open(one, share);
    std::map<const member*, uint64_t> next;
    const auto is_over = [&] {
      return std::all_of(members.begin(), members.end(), [&](const member& one) {
        return next[&one] == one.requests.size() && one.runs->idle();
      });
    };
    for (int round = 0; !is_over(); ++round) {
      ASSERT_LT(round, 20'000) << "no progress";
      auto& one = members[random() % members.size()];
      auto& number = next[&one];
      if (random() % 4 == 0 && number < one.requests.size()) {
        EXPECT_FALSE(one.runs->add(one.requests[number++]));
      }
      if (random() % 40 == 0 && number > 0) {
        const auto id = random() % number;
        one.runs->cancel({id, 0});
        resume(one, id);
      }
      if (random() % 300 == 0) {
        const auto done = one.runs->counters();
        pushed_out += done.recomputed + done.swapped;
        one.runs.reset();
        one.runs = open(one, share);
        for (uint64_t id = 0; id < number; ++id)
          resume(one, id);
      }
      const auto events = one.runs->step();
      ASSERT_TRUE(events) << describe(events.error());
      take(one, *events);
      engine_memory taken;
      for (const auto& other : members)
        taken = taken + other.runs->memory();
      ASSERT_EQ(taken.kv_bytes, (*memory)->borrowed_bytes());
      ASSERT_EQ(taken.workspace_bytes, share.work->size_bytes());
    }
    for (auto& one : members) {
      EXPECT_EQ(one.got, one.expected);
      EXPECT_EQ(one.runs->kv_usage(), 0);
      pushed_out += one.runs->counters().recomputed + one.runs->counters().swapped;
      EXPECT_EQ(one.runs->counters().swap_bytes, 0u);
      one.runs.reset();
    }
    EXPECT_EQ((*memory)->borrowed_bytes(), 0u);
    EXPECT_EQ(share.work->size_bytes(), 0u);
  }
  EXPECT_GT(pushed_out, 20u);
}

// One text needs nearly all of the arena, while short ones of another model keep coming.
TEST_F(shared_kv, a_long_text_ends_however_many_short_ones_of_another_model_follow) {
  std::mt19937_64 random{5};
  auto large = make("mistral_window", 0, random), small = make("llama_gqa_tied", 0, random);
  const auto tokens = large.model.prompt.size() + 60;
  auto memory = kv_memory::create(*device, bytes_of(large, tokens) + 2560, 1024);
  ASSERT_TRUE(memory);
  large.runs = open(large, {*memory, nullptr});
  small.runs = open(small, {*memory, nullptr});
  const auto alone = golden::ask(*open(large, {}), golden::request(1, large.model.prompt, 58));
  uint64_t number = 0;
  ids got;
  ASSERT_FALSE(large.runs->add(golden::request(1, large.model.prompt, 58)));
  for (int round = 0; !large.runs->idle(); ++round) {
    ASSERT_LT(round, 2'000) << "no progress";
    while (small.runs->waiting() + small.runs->running() < 4) {
      ++number;
      ASSERT_FALSE(small.runs->add(golden::request(number, small.model.prompt, 5, 0.9f, number)));
    }
    ASSERT_TRUE(small.runs->step());
    const auto events = large.runs->step();
    ASSERT_TRUE(events);
    for (const auto& event : *events)
      got.push_back(event.token);
  }
  EXPECT_EQ(got, alone.tokens);
  EXPECT_GT(number, 4u); // the others went on meanwhile
}

// What one model remembers goes when another one needs the room, and not before.
TEST_F(shared_kv, prefixes_are_remembered_until_another_model_needs_the_room) {
  std::mt19937_64 random{5};
  auto first = make("llama_gqa_tied", 0, random), second = make("qwen3", 0, random);
  const auto bytes = bytes_of(second, 78);
  auto memory = kv_memory::create(*device, bytes, 1024);
  ASSERT_TRUE(memory);
  first.runs = open(first, {*memory, nullptr});
  second.runs = open(second, {*memory, nullptr});
  const auto reused = [&](member& of) {
    uint32_t out = 0;
    EXPECT_FALSE(of.runs->add(golden::request(1, of.model.prompt, 2)));
    while (!of.runs->idle()) {
      const auto events = of.runs->step();
      EXPECT_TRUE(events);
      for (const auto& event : *events)
        out += event.reused;
    }
    return out;
  };
  EXPECT_EQ(reused(first), 0u);
  EXPECT_GT(first.runs->memory().kv_bytes, 0u);
  const auto remembered = reused(first);
  EXPECT_GT(remembered, 0u);
  auto wide = second.model.prompt;
  wide.resize(70, wide.front());
  EXPECT_EQ(golden::ask(*second.runs, golden::request(2, wide, 8)).tokens.size(), 8u);
  EXPECT_LT(reused(first), remembered);
}

} // namespace
} // namespace troupe::engine
