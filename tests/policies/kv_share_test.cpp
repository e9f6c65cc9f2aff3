#include "policies/kv_share.hpp"

#include <gtest/gtest.h>

namespace troupe::policies {
namespace {

using holdings = std::vector<kv_holding>;

kv_holding running(uint64_t held, uint32_t sequences, uint64_t youngest) {
  return {.held = held, .sequences = sequences, .youngest = youngest};
}

kv_plea plea(uint64_t came, bool is_alone = false) {
  kv_plea out;
  out.came = came;
  out.is_alone = is_alone;
  out.may_push_out = true;
  return out;
}

TEST(kv_share, free_spans_come_first_for_those_who_may_borrow_more) {
  const holdings all{{}, {.spare = 5, .spare_since = 1}};
  auto one = plea(9);
  one.spans = 2;
  EXPECT_EQ(relieve(all, 0, one, 2, 10), (kv_decision{kv_relief::borrow, 0}));
  EXPECT_EQ(relieve(all, 0, one, 1, 10), (kv_decision{kv_relief::spare, 1}));
  one.may_borrow = false;
  EXPECT_EQ(relieve(all, 0, one, 2, 10), kv_decision{});
  one.own_oldest = 7;
  EXPECT_EQ(relieve(all, 0, one, 2, 10), (kv_decision{kv_relief::own_block, 0}));
}

TEST(kv_share, what_is_remembered_goes_by_its_last_use_whoever_has_it) {
  const holdings all{{.spare = 1, .spare_since = 1}, // its own blocks go one by one
                     {.spare = 1, .spare_since = 6},
                     {.spare = 3, .spare_since = 4}};
  auto one = plea(9);
  EXPECT_EQ(relieve(all, 0, one, 0, 10), (kv_decision{kv_relief::spare, 2}));
  one.own_oldest = 5;
  EXPECT_EQ(relieve(all, 0, one, 0, 10), (kv_decision{kv_relief::spare, 2}));
  one.own_oldest = 3;
  EXPECT_EQ(relieve(all, 0, one, 0, 10), (kv_decision{kv_relief::own_block, 0}));
}

TEST(kv_share, guesses_go_before_any_sequence) {
  holdings all{running(1, 2, 5), running(8, 4, 6), {.held = 1, .is_draft = true}};
  EXPECT_EQ(relieve(all, 0, plea(4), 0, 10), (kv_decision{kv_relief::push_out, 2}));
  auto guess = plea(4);
  guess.may_push_out = false;
  EXPECT_EQ(relieve(all, 0, guess, 0, 10), kv_decision{});
}

TEST(kv_share, who_has_more_than_its_share_makes_room_for_who_has_less) {
  // Shares of 4: the second has the most above.
  holdings all{running(2, 2, 9), running(6, 3, 5), running(5, 2, 6)};
  EXPECT_EQ(relieve(all, 0, plea(8), 0, 12), (kv_decision{kv_relief::push_out, 1}));
  all[0].held = 4; // it has its share
  EXPECT_EQ(relieve(all, 0, plea(8), 0, 12), kv_decision{});
  all[0].held = 2;
  all[1] = running(4, 3, 5);
  all[2] = running(4, 3, 6); // nobody is above
  EXPECT_EQ(relieve(all, 0, plea(8), 0, 12), kv_decision{});
}

TEST(kv_share, a_last_sequence_goes_for_older_ones_only) {
  holdings all{running(1, 1, 8), running(9, 1, 5)};
  EXPECT_EQ(relieve(all, 0, plea(8, true), 0, 10), kv_decision{});
  all[1].youngest = 9;
  EXPECT_EQ(relieve(all, 0, plea(8, true), 0, 10), (kv_decision{kv_relief::push_out, 1}));
}

TEST(kv_share, the_oldest_sequence_gets_all_that_it_needs) {
  const holdings all{running(9, 1, 1), running(1, 1, 2)};
  EXPECT_EQ(relieve(all, 0, plea(1, true), 0, 10), (kv_decision{kv_relief::push_out, 1}));
  // Others of its own model go before those of another one.
  EXPECT_EQ(relieve(all, 0, plea(1, false), 0, 10), kv_decision{});
}

TEST(kv_share, who_waits_for_weights_keeps_nothing_from_others) {
  holdings all{running(8, 2, 8), running(2, 1, 1)};
  EXPECT_EQ(relieve(all, 0, plea(8), 0, 10), kv_decision{});
  all[1].is_stalled = true;
  EXPECT_EQ(relieve(all, 0, plea(8), 0, 10), (kv_decision{kv_relief::push_out, 1}));
}

TEST(kv_share, within_reach_is_what_may_be_had) {
  holdings all{running(1, 1, 5), running(8, 2, 4), {.held = 2, .spare = 3, .is_draft = true}};
  // 1 free, 3 remembered, 2 of guesses, and of the share of 7 what the second has above its own.
  EXPECT_EQ(within_reach(all, 0, 1, 15), 1u + 3u + 2u + 1u);
  all[1].sequences = 1; // which it keeps
  EXPECT_EQ(within_reach(all, 0, 1, 15), 6u);
  all[0].held = 9;
  all[1].sequences = 2;
  EXPECT_EQ(within_reach(all, 0, 1, 15), 6u); // it has its own share
}

} // namespace
} // namespace troupe::policies
