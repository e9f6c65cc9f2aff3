// What tenants may keep loaded and let wait, from a request to its answer.
#include <gtest/gtest.h>

#include "tests/actors/cluster_fixture.hpp"

namespace troupe::actors::testing {
namespace {

using namespace std::chrono_literals;

invocation_request from(const std::string& tenant, const std::string& model,
                        policies::tenant_caps caps) {
  auto request = make_request(model, "p", 5);
  request.tenant = tenant;
  request.caps = caps;
  return request;
}

TEST(tenant_caps, a_queue_that_is_full_ends_in_a_refusal_with_a_time) {
  cluster all{{.sequences_max = 1}};
  all.add_worker();
  const policies::tenant_caps caps{.queue = 2};
  std::vector<std::shared_ptr<recorder>> asked;
  for (int i = 0; i < 3; ++i)
    asked.push_back(all.submit(from("acme", "a", caps)));
  const auto other = all.submit(from("umbrella", "a", caps));
  all.advance(1s);
  EXPECT_TRUE(other->used);
  size_t answered = 0;
  for (const auto& one : asked) {
    answered += one->used.has_value();
    if (!one->failed)
      continue;
    EXPECT_EQ(one->failed->kind, failure_kind::tenant_cap);
    EXPECT_EQ(one->failed->limit, policies::quota_kind::queue);
    EXPECT_GE(*one->failed->retry_after, 1s);
  }
  EXPECT_EQ(answered, 2u) << "two may wait for the load";
}

TEST(tenant_caps, one_model_more_lets_an_idle_one_go_at_once) {
  cluster all{};
  all.add_worker(200);
  const policies::tenant_caps caps{.warm_models = 1};
  all.submit(from("acme", "a", caps));
  all.advance(1s);
  EXPECT_EQ(all.status("a").state, "ready");
  const auto second = all.submit(from("acme", "b", caps));
  all.advance(1s);
  EXPECT_TRUE(second->used);
  EXPECT_EQ(all.status("a").state, "cold") << "there would have been room for both";
}

TEST(tenant_caps, cold_starts_are_refused_until_the_hour_is_over) {
  cluster all{{.keep_alive = 1s}};
  all.add_worker(200);
  const policies::tenant_caps caps{.cold_starts_per_hour = 1};
  all.submit(from("acme", "a", caps));
  all.advance(10s);
  const auto refused = all.submit(from("acme", "b", caps));
  all.advance(1s);
  ASSERT_TRUE(refused->failed);
  EXPECT_EQ(refused->failed->limit, policies::quota_kind::cold_starts);
  EXPECT_EQ(*refused->failed->retry_after, 3590s) << "not cut to what clients obey";
  all.advance(3590s);
  const auto later = all.submit(from("acme", "b", caps));
  all.advance(1s);
  EXPECT_TRUE(later->used);
}

TEST(tenant_caps, what_is_only_watched_is_told_and_answered) {
  cluster all{};
  all.add_worker(200);
  const policies::tenant_caps caps{.cold_starts_per_hour = 1, .enforce = false};
  all.submit(from("acme", "a", caps));
  all.advance(1s);
  const auto over = all.submit(from("acme", "b", caps));
  all.advance(1s);
  EXPECT_TRUE(over->used);
  EXPECT_EQ(over->watched, std::vector{policies::quota_kind::cold_starts});
}

} // namespace
} // namespace troupe::actors::testing
