#include "actors/stager.hpp"

#include <caf/all.hpp>
#include <caf/scheduler/test_coordinator.hpp>
#include <gtest/gtest.h>

#include "actors/system_config.hpp"

namespace troupe::actors {
namespace {

struct testing_config : system_config {
  testing_config() { set("scheduler.policy", caf::atom("testing")); }
};

/// A model on its way into no pool: lives as long as its work goes on.
class fake_work final : public staged_model {
public:
  explicit fake_work(int& alive, const bool& over) : alive_{alive}, over_{over} { ++alive_; }
  ~fake_work() override { --alive_; }
  bool is_over() const override { return over_; }

private:
  int& alive_;
  const bool& over_;
};

struct stager_test : testing::Test {
  void SetUp() override {
    stager_setup setup;
    setup.self_card = std::make_shared<actor_card>("stager", "stager");
    setup.prefetch = [this](const std::string& dir, double rate) -> std::shared_ptr<staged_model> {
      started.emplace_back(dir, rate);
      return has_room ? std::make_shared<fake_work>(alive, over) : nullptr;
    };
    setup.book = book;
    setup.look = [this](const load_order&, const std::string&, uint64_t coming_bytes) {
      asked_after.push_back(coming_bytes);
      policies::tier_bytes out{};
      out[static_cast<size_t>(policies::load_tier::disk)] = 1000;
      return out;
    };
    setup.find = [](const std::string& origin, const std::string&) {
      return origin == "hf://org/here" ? "/hub/here" : std::string{};
    };
    actor = system.spawn(stager, std::move(setup));
  }
  void TearDown() override {
    caf::anon_send_exit(actor, caf::exit_reason::user_shutdown);
    jobs.run();
  }
  void prefetch(const std::string& model, const std::string& dir, const std::string& origin = {}) {
    load_order order;
    order.model = {model};
    order.dir = dir;
    order.origin = origin;
    caf::anon_send(actor, atom::prefetch_v, order, 0.5);
    jobs.run();
  }

  testing_config config;
  caf::actor_system system{config};
  caf::scheduler::test_coordinator& jobs =
      dynamic_cast<caf::scheduler::test_coordinator&>(system.scheduler());
  std::shared_ptr<load_book> book = std::make_shared<load_book>();
  std::vector<uint64_t> asked_after;
  std::vector<std::pair<std::string, double>> started;
  int alive = 0;
  bool over = false, has_room = true;
  stager_actor actor;
};

TEST_F(stager_test, a_model_is_prefetched_once_at_a_time_until_it_is_spared) {
  prefetch("a", "/models/a");
  prefetch("a", "/models/a");
  ASSERT_EQ(started.size(), 1u);
  EXPECT_EQ(started[0], (std::pair<std::string, double>{"/models/a", 0.5}));
  EXPECT_EQ(alive, 1);
  caf::anon_send(actor, atom::spare_v, model_ref{{"a"}});
  jobs.run();
  EXPECT_EQ(alive, 0);
  prefetch("a", "/models/a");
  EXPECT_EQ(started.size(), 2u);
}

TEST_F(stager_test, what_is_over_is_let_go_and_may_be_prefetched_again) {
  prefetch("a", "/models/a");
  over = true;
  prefetch("a", "/models/a");
  EXPECT_EQ(started.size(), 2u);
  EXPECT_EQ(alive, 1);
}

TEST_F(stager_test, without_room_nothing_is_kept) {
  has_room = false;
  prefetch("a", "/models/a");
  prefetch("a", "/models/a");
  EXPECT_EQ(started.size(), 2u);
  EXPECT_EQ(alive, 0);
}

TEST_F(stager_test, nothing_is_fetched_from_a_network_ahead_of_time) {
  prefetch("there", "", "hf://org/there");
  EXPECT_TRUE(started.empty());
  prefetch("here", "", "hf://org/here");
  ASSERT_EQ(started.size(), 1u);
  EXPECT_EQ(started[0].first, "/hub/here");
}

TEST_F(stager_test, a_load_is_foreseen_by_what_those_before_it_leave_in_the_pool) {
  const caf::scoped_actor worker{system};
  const auto survey = [&](const std::string& model) {
    load_order order;
    order.model = {model};
    order.dir = "/models/" + model;
    worker->send(actor, atom::survey_v, order);
    jobs.run();
  };
  book->announce(worker->id(), {"a"}, {});
  book->announce(worker->id(), {"b"}, {});
  survey("a");
  survey("b");
  EXPECT_EQ(asked_after, (std::vector<uint64_t>{0, 1000}));
}

} // namespace
} // namespace troupe::actors
