#include "policies/tenant_holds.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace troupe::policies {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr uint64_t gib = uint64_t{1} << 30;
constexpr uint64_t acme = 1, umbrella = 2;

/// Models of 10 GiB whose keep-alive is a minute; sequences are numbered as they come.
struct fixture : testing::Test {
  tenant_holds holds;
  instant now{};
  std::map<std::string, tenant_holds::model_facts> models;
  uint64_t last = 0;

  tenant_holds::model_facts facts(const model_id& id) {
    const auto at = models.find(id.text);
    return at == models.end() ? tenant_holds::model_facts{.bytes = 10 * gib} : at->second;
  }
  tenant_holds::answer admit(uint64_t tenant, const char* model, tenant_caps caps,
                             bool cold = false, bool at_once = false) {
    return holds.admit(
        {tenant, tenant == acme ? "acme" : "umbrella", caps, {model}, at_once, cold},
        [this](const model_id& id) { return facts(id); }, now);
  }
  sequence_id begin(uint64_t tenant, const char* model) {
    const sequence_id id{++last, 0};
    holds.begin(id, tenant, {model}, now);
    return id;
  }
  void end(sequence_id id) { holds.end(id, now, now + 60s); }
  void use(uint64_t tenant, const char* model) {
    end(begin(tenant, model));
    now += 1s;
  }
};
using tenant_holds_test = fixture;

TEST_F(tenant_holds_test, as_many_requests_wait_as_may_and_the_next_is_told_how_long) {
  const tenant_caps caps{.queue = 2};
  const auto first = begin(acme, "a");
  now += 7s;
  begin(acme, "b");
  now += 3s;
  const auto full = admit(acme, "c", caps);
  ASSERT_TRUE(full.over);
  EXPECT_EQ(full.over->limit, quota_kind::queue);
  EXPECT_EQ(full.over->retry_after, 10s) << "as long as the first has waited";
  EXPECT_FALSE(admit(umbrella, "c", caps).over) << "others are not concerned";
  EXPECT_FALSE(admit(acme, "c", caps, false, true).over) << "this one need not wait";
  holds.started(first);
  EXPECT_FALSE(admit(acme, "c", caps).over) << "who runs waits no more";
}

TEST_F(tenant_holds_test, the_choices_of_one_request_wait_as_one) {
  for (uint32_t choice = 0; choice < 5; ++choice)
    holds.begin({1, choice}, acme, {"a"}, now);
  EXPECT_EQ(holds.waiting(acme), 1u);
  for (uint32_t choice = 0; choice < 4; ++choice)
    holds.started({1, choice});
  EXPECT_EQ(holds.waiting(acme), 1u);
  holds.end({1, 4}, now, now);
  EXPECT_EQ(holds.waiting(acme), 0u);
}

TEST_F(tenant_holds_test, one_model_more_lets_the_longest_unused_idle_one_go) {
  const tenant_caps caps{.warm_models = 3};
  use(acme, "a");
  use(acme, "b");
  use(acme, "a");
  const auto busy = begin(acme, "c");
  const auto answer = admit(acme, "d", caps);
  EXPECT_FALSE(answer.over);
  EXPECT_THAT(answer.released, ElementsAre(model_id{"b"}));
  begin(acme, "d");
  EXPECT_FALSE(admit(acme, "a", caps).over) << "it holds that already";
  EXPECT_EQ(holds.held(acme, now), 3u);
  EXPECT_THAT(admit(acme, "e", caps).released, ElementsAre(model_id{"a"}));
  begin(acme, "e");
  const auto full = admit(acme, "f", caps);
  ASSERT_TRUE(full.over) << "c, d and e are busy";
  EXPECT_EQ(full.over->limit, quota_kind::warm_models);
  EXPECT_TRUE(full.over->retry_after);
  end(busy);
  EXPECT_THAT(admit(acme, "f", caps).released, ElementsAre(model_id{"c"}));
}

TEST_F(tenant_holds_test, what_others_hold_stays_loaded) {
  const tenant_caps caps{.warm_models = 1};
  use(acme, "a");
  use(umbrella, "a");
  const auto answer = admit(acme, "b", caps);
  EXPECT_FALSE(answer.over);
  EXPECT_THAT(answer.released, IsEmpty());
  EXPECT_EQ(holds.held(acme, now), 0u) << "it no longer pays for it";
  EXPECT_EQ(holds.held(umbrella, now), 1u);
}

TEST_F(tenant_holds_test, a_hold_ends_with_the_keep_alive_or_with_the_model) {
  const tenant_caps caps{.warm_models = 1};
  use(acme, "a");
  now += 60s;
  EXPECT_EQ(holds.held(acme, now), 0u);
  EXPECT_THAT(admit(acme, "b", caps).released, IsEmpty());
  use(acme, "b");
  holds.unloaded({"b"}, now);
  EXPECT_EQ(holds.held(acme, now), 0u);
  const auto waits = begin(acme, "c");
  holds.unloaded({"c"}, now);
  EXPECT_EQ(holds.held(acme, now), 1u) << "it will be loaded again for what waits";
  end(waits);
  now += 60s;
  holds.unloaded({"a"}, now);
  holds.unloaded({"c"}, now);
  EXPECT_EQ(holds.remembered(), 0u);
}

TEST_F(tenant_holds_test, memory_is_shared_by_those_who_hold_a_model) {
  const tenant_caps caps{.memory_bytes = 15 * gib};
  begin(acme, "a");
  EXPECT_EQ(admit(acme, "b", caps).over->limit, quota_kind::memory) << "10 + 10";
  begin(umbrella, "a");
  EXPECT_FALSE(admit(acme, "b", caps).over) << "5 + 10";
  begin(umbrella, "b");
  EXPECT_FALSE(admit(acme, "b", caps).over) << "5 + 5";
}

TEST_F(tenant_holds_test, a_model_beyond_all_memory_is_not_waited_for) {
  models["huge"] = {.bytes = 16 * gib};
  use(acme, "a");
  const auto answer = admit(acme, "huge", {.memory_bytes = 15 * gib});
  ASSERT_TRUE(answer.over);
  EXPECT_FALSE(answer.over->retry_after);
  EXPECT_THAT(answer.released, IsEmpty()) << "nothing is let go in vain";
  EXPECT_EQ(holds.held(acme, now), 1u);
}

TEST_F(tenant_holds_test, memory_too_is_made_by_letting_go) {
  models["small"] = {.bytes = 2 * gib};
  use(acme, "small");
  use(acme, "a");
  EXPECT_THAT(admit(acme, "b", {.memory_bytes = 12 * gib}).released,
              ElementsAre(model_id{"small"}, model_id{"a"}));
}

TEST_F(tenant_holds_test, pinned_models_cost_nobody_anything) {
  models["pinned"] = {.bytes = 10 * gib, .pinned = true};
  const tenant_caps caps{.warm_models = 1, .memory_bytes = 10 * gib};
  use(acme, "pinned");
  EXPECT_FALSE(admit(acme, "a", caps).over);
  begin(acme, "a");
  EXPECT_FALSE(admit(acme, "pinned", caps).over);
}

TEST_F(tenant_holds_test, a_model_that_loads_is_not_let_go) {
  models["a"] = {.bytes = 10 * gib, .pinned = false, .loading = true};
  use(acme, "a"); // its request was taken back meanwhile
  EXPECT_TRUE(admit(acme, "b", {.warm_models = 1}).over);
  now += 61s;
  EXPECT_TRUE(admit(acme, "b", {.warm_models = 1}).over);
  models["a"].loading = false;
  EXPECT_FALSE(admit(acme, "b", {.warm_models = 1}).over);
}

TEST_F(tenant_holds_test, no_hour_has_more_cold_starts_than_may_wherever_it_begins) {
  const tenant_caps caps{.cold_starts_per_hour = 3};
  std::mt19937_64 random{7};
  std::vector<instant> taken;
  for (int i = 0; i < 2000; ++i) {
    now += std::chrono::seconds{random() % 300};
    const auto answer = admit(acme, "a", caps, true);
    if (answer.over) {
      const auto wait = *answer.over->retry_after;
      EXPECT_EQ(taken[taken.size() - 3] + 1h, now + wait) << "exactly then there is room again";
      EXPECT_FALSE(admit(acme, "a", caps, false).over) << "what is warm never counts";
    } else {
      taken.push_back(now);
    }
  }
  for (size_t i = 3; i < taken.size(); ++i)
    EXPECT_GE(taken[i] - taken[i - 3], 1h);
  EXPECT_GT(taken.size(), 200u);
}

TEST_F(tenant_holds_test, what_is_refused_takes_nothing) {
  const tenant_caps caps{.queue = 1, .warm_models = 1, .cold_starts_per_hour = 1};
  begin(acme, "a");
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(admit(acme, "b", caps, true).over->limit, quota_kind::queue);
  holds.started({1, 0});
  EXPECT_EQ(admit(acme, "b", caps, true).over->limit, quota_kind::warm_models);
  end({1, 0});
  EXPECT_FALSE(admit(acme, "b", caps, true).over) << "the cold start was still there";
  EXPECT_EQ(admit(acme, "b", caps, true).over->limit, quota_kind::cold_starts);
}

TEST_F(tenant_holds_test, what_is_only_watched_lets_nothing_go) {
  const tenant_caps caps{.warm_models = 1, .enforce = false};
  use(acme, "a");
  const auto answer = admit(acme, "b", caps);
  EXPECT_FALSE(answer.over) << "an enforced limit would not refuse it either";
  EXPECT_THAT(answer.released, IsEmpty());
  EXPECT_EQ(holds.held(acme, now), 1u);
}

TEST_F(tenant_holds_test, prompts_count_from_their_start_to_their_first_token) {
  holds.begin({1, 0}, acme, {"a"}, now, 100);
  EXPECT_EQ(holds.prompt_tokens(acme, {"a"}), 0u) << "it waits";
  holds.started({1, 0});
  holds.begin({2, 0}, acme, {"a"}, now, 30);
  holds.started({2, 0});
  EXPECT_EQ(holds.prompt_tokens(acme, {"a"}), 130u);
  EXPECT_EQ(holds.running(acme, {"a"}), 2u);
  holds.answered({1, 0});
  holds.answered({1, 0});
  EXPECT_EQ(holds.prompt_tokens(acme, {"a"}), 30u);
  holds.end({2, 0}, now, now);
  EXPECT_EQ(holds.prompt_tokens(acme, {"a"}), 0u);
  EXPECT_EQ(holds.running(acme, {"a"}), 1u);
}

/// Random tenants, models and limits beside a plain record of what happened.
TEST_F(tenant_holds_test, who_runs_most_is_known) {
  const auto one = begin(acme, "a"), two = begin(acme, "a"), three = begin(umbrella, "a");
  EXPECT_EQ(holds.most_running({"a"}), 0u) << "they wait";
  for (const auto id : {one, two, three, two})
    holds.started(id);
  EXPECT_EQ(holds.most_running({"a"}), 2u);
  EXPECT_EQ(holds.running(acme, {"a"}), 2u);
  EXPECT_EQ(holds.most_running({"b"}), 0u);
  holds.begin(one, acme, {"a"}, now); // resumed: it waits again
  EXPECT_EQ(holds.most_running({"a"}), 1u);
  for (const auto id : {one, two, three, three})
    end(id);
  EXPECT_EQ(holds.most_running({"a"}), 0u);
}

TEST_F(tenant_holds_test, caps_hold_over_random_histories) {
  struct running {
    uint64_t tenant;
    std::string model;
    bool waits;
  };
  struct past {
    uint64_t tenant;
    std::string model;
    instant until;
  };
  std::map<sequence_id, running> live;
  std::vector<past> ended;
  std::mt19937_64 random{11};
  const auto caps_of = [](uint64_t tenant) {
    return tenant_caps{.queue = 2 + tenant, .warm_models = 1 + tenant, .memory_bytes = 25 * gib};
  };
  for (int step = 0; step < 20'000; ++step) {
    now += std::chrono::milliseconds{random() % 4000};
    const uint64_t tenant = 1 + random() % 3;
    const std::string model(1, static_cast<char>('a' + random() % 6));
    const auto what = random() % 4;
    if (what < 2) {
      const auto answer = admit(tenant, model.c_str(), caps_of(tenant));
      for (const auto& id : answer.released) {
        for (const auto& [other, x] : live)
          ASSERT_NE(x.model, id.text) << "nobody uses what is let go";
        std::erase_if(ended, [&](const auto& x) { return x.model == id.text; });
        holds.unloaded(id, now);
      }
      if (!answer.over)
        live[begin(tenant, model.c_str())] = {tenant, model, true};
    } else if (!live.empty()) {
      auto at = std::next(live.begin(), static_cast<long>(random() % live.size()));
      if (what == 2 && at->second.waits) {
        holds.started(at->first);
        at->second.waits = false;
      } else {
        end(at->first);
        ended.push_back({at->second.tenant, at->second.model, now + 60s});
        live.erase(at);
      }
    }
    for (uint64_t t = 1; t <= 3; ++t) {
      std::set<std::string> busy;
      size_t waiting = 0;
      for (const auto& [id, x] : live) {
        if (x.tenant == t)
          busy.insert(x.model);
        waiting += x.tenant == t && x.waits;
      }
      ASSERT_EQ(holds.waiting(t), waiting);
      ASSERT_LE(waiting, caps_of(t).queue);
      ASSERT_LE(holds.held(t, now), caps_of(t).warm_models);
      ASSERT_GE(holds.held(t, now), busy.size());
    }
  }
}

} // namespace
} // namespace troupe::policies
