#include "policies/fan_out.hpp"

#include <algorithm>
#include <bit>
#include <deque>
#include <map>
#include <optional>
#include <queue>
#include <random>
#include <set>
#include <tuple>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace troupe::policies {
namespace {

TEST(fan_out, every_chunk_has_a_tree_that_ends_at_the_first_node) {
  for (uint32_t members = 2; members <= 130; ++members)
    for (uint64_t chunk = 0; chunk < 40; ++chunk)
      for (uint32_t node = 1; node < members; ++node) {
        const auto route = fan_out_route(node, members, chunk);
        ASSERT_FALSE(route.empty());
        ASSERT_EQ(route.back(), 0u);
        ASSERT_LE(route.size(), std::bit_width(members) + 1u);
        std::set<uint32_t> seen{node};
        for (const auto at : route) {
          ASSERT_LT(at, members);
          ASSERT_TRUE(seen.insert(at).second);
        }
      }
}

TEST(fan_out, whoever_is_asked_asks_those_that_come_behind_it) {
  // So nobody ever waits for itself, whoever is lost.
  for (const uint32_t members : {3u, 8u, 13u, 64u, 100u})
    for (uint64_t chunk = 0; chunk < 30; ++chunk)
      for (uint32_t node = 1; node < members; ++node) {
        const auto route = fan_out_route(node, members, chunk);
        std::map<uint32_t, size_t> depth;
        for (uint32_t other = 1; other < members; ++other)
          depth[other] = fan_out_route(other, members, chunk).size();
        for (const auto at : route)
          ASSERT_LT(depth[at], depth[node]);
      }
}

TEST(fan_out, every_node_sends_about_as_much_as_it_gets) {
  for (const uint32_t members : {2u, 3u, 4u, 6u, 16u, 17u, 24u, 64u}) {
    constexpr uint64_t chunks = 1 << 12;
    std::vector<double> sent(members);
    for (uint64_t chunk = 0; chunk < chunks; ++chunk)
      for (uint32_t node = 1; node < members; ++node)
        ++sent[fan_out_route(node, members, chunk).front()];
    for (uint32_t node = 0; node < members; ++node)
      EXPECT_LE(sent[node] / chunks, 1.02) << node << " of " << members;
  }
}

TEST(fan_out, peers_help_unless_their_last_chunk_costs_more_than_they_save) {
  constexpr double gb = 1e9, mb = 1e6;
  EXPECT_TRUE(peers_help(0, 1 * gb, 8 * gb, 4 * mb));
  EXPECT_TRUE(peers_help(3 * gb, 0, 8 * gb, 4 * mb));
  EXPECT_TRUE(peers_help(3 * gb, 3 * gb, 8 * gb, 4 * mb));
  EXPECT_FALSE(peers_help(3 * gb, 10 * mb, 1 * gb, 4 * mb));
  EXPECT_FALSE(peers_help(3 * gb, 1 * gb, 4 * mb, 4 * mb));
}

/// Nodes that pull chunks in order, so many at a time, over links that send one thing after the
/// other; receiving is as fast. In units of the time that one chunk takes.
class pulling {
public:
  pulling(uint32_t members, uint64_t chunks, uint32_t window)
      : members_{members}, chunks_{chunks}, window_{window}, nodes_(members) {
    for (auto& node : nodes_)
      node.has.assign(chunks, false);
    nodes_[0].has.assign(chunks, true);
  }
  /// Takes a node away once it has so many chunks.
  void kill(uint32_t node, uint64_t at) { killed_ = {node, at}; }

  double run() {
    for (uint32_t node = 1; node < members_; ++node)
      ask_more(node);
    while (!sendings_.empty()) {
      const auto [at, from, to, chunk] = sendings_.top();
      sendings_.pop();
      now_ = at;
      nodes_[from].sending = false;
      if (!nodes_[to].dead && !nodes_[from].dead)
        arrive(to, chunk);
      send_next(from);
    }
    return now_;
  }
  bool is_complete(uint32_t node) const { return nodes_[node].count == chunks_; }

private:
  struct node {
    std::vector<bool> has;
    uint64_t asked = 0, count = 0;
    bool sending = false, dead = false;
    std::deque<std::pair<uint32_t, uint64_t>> ready;   ///< to whom, which
    std::map<uint64_t, std::vector<uint32_t>> waiting; ///< for chunks that are not there
    std::map<uint64_t, uint32_t> outstanding;          ///< chunk -> who was asked
  };
  using sending = std::tuple<double, uint32_t, uint32_t, uint64_t>;

  void ask_more(uint32_t who) {
    auto& me = nodes_[who];
    while (me.asked < chunks_ && me.asked - me.count < window_)
      ask(who, me.asked++);
  }
  void ask(uint32_t who, uint64_t chunk) {
    for (const auto from : fan_out_route(who, members_, chunk)) {
      if (nodes_[from].dead)
        continue;
      nodes_[who].outstanding[chunk] = from;
      if (nodes_[from].has[chunk])
        nodes_[from].ready.emplace_back(who, chunk);
      else
        nodes_[from].waiting[chunk].push_back(who);
      return send_next(from);
    }
    FAIL();
  }
  void send_next(uint32_t from) {
    auto& me = nodes_[from];
    if (me.sending || me.dead || me.ready.empty())
      return;
    const auto [to, chunk] = me.ready.front();
    me.ready.pop_front();
    me.sending = true;
    sendings_.emplace(now_ + 1, from, to, chunk);
  }
  void arrive(uint32_t who, uint64_t chunk) {
    auto& me = nodes_[who];
    me.has[chunk] = true;
    ++me.count;
    me.outstanding.erase(chunk);
    for (const auto to : std::exchange(me.waiting[chunk], {}))
      me.ready.emplace_back(to, chunk);
    if (killed_ && killed_->first == who && me.count == killed_->second)
      die(who);
    else
      send_next(who), ask_more(who);
  }
  void die(uint32_t who) {
    nodes_[who].dead = true;
    for (uint32_t other = 1; other < members_; ++other)
      for (const auto& [chunk, from] : std::map{nodes_[other].outstanding})
        if (from == who && !nodes_[other].dead)
          ask(other, chunk);
  }

  const uint32_t members_;
  const uint64_t chunks_;
  const uint32_t window_;
  double now_ = 0;
  std::vector<node> nodes_;
  std::optional<std::pair<uint32_t, uint64_t>> killed_;
  std::priority_queue<sending, std::vector<sending>, std::greater<>> sendings_;
};

TEST(fan_out, up_to_64_nodes_have_all_soon_after_the_first_could_have_it) {
  constexpr uint64_t chunks = 256; // 1 GiB of 4 MiB each
  for (uint32_t members = 2; members <= 65; ++members) {
    const auto took = pulling{members, chunks, 16}.run();
    EXPECT_LE(took / fan_out_bound(chunks, 1, members, chunks), 1.15) << members;
  }
}

TEST(fan_out, a_node_that_is_lost_costs_no_one_else_what_it_had_already) {
  constexpr uint64_t chunks = 256;
  std::mt19937 random{7};
  for (const uint32_t members : {3u, 9u, 17u, 33u, 64u})
    for (int i = 0; i < 20; ++i) {
      const auto lost = 1 + static_cast<uint32_t>(random() % (members - 1));
      pulling all{members, chunks, 16};
      all.kill(lost, 1 + random() % (chunks - 1));
      // What went through it now goes through whoever is nearer to the first: that may have twice
      // as much to send.
      EXPECT_LE(all.run() / fan_out_bound(chunks, 1, members, chunks), 2.2) << lost << members;
      for (uint32_t node = 1; node < members; ++node)
        EXPECT_TRUE(node == lost || all.is_complete(node));
    }
}

TEST(fan_out, who_joins_asks_those_that_began_before_it_in_turn_and_the_first_node_last) {
  EXPECT_EQ(joining_route(1, 7), (std::vector<uint32_t>{1, 0}));
  EXPECT_EQ(joining_route(3, 0), (std::vector<uint32_t>{1, 2, 3, 0}));
  EXPECT_EQ(joining_route(3, 4), (std::vector<uint32_t>{2, 3, 1, 0}));
}

TEST(fan_out, every_part_of_an_origin_is_one_nodes_and_lost_ones_are_shared_out) {
  for (const uint32_t members : {2u, 4u, 7u, 16u}) {
    const uint64_t parts = uint64_t{members} * members * (members - 1);
    std::map<uint32_t, uint64_t> first, after_loss;
    for (uint64_t part = 0; part < parts; ++part) {
      auto turns = fetch_turns(members, part);
      const std::set<uint32_t> all{turns.begin(), turns.end()};
      EXPECT_EQ(all.size(), members);
      EXPECT_EQ(*all.begin(), 1u);
      EXPECT_EQ(*all.rbegin(), members);
      EXPECT_NE(turns.front(), fetch_turns(members, part + 1).front());
      ++first[turns.front()];
      std::erase(turns, 1u);
      ++after_loss[turns.front()];
    }
    for (uint32_t node = 1; node <= members; ++node)
      EXPECT_EQ(first[node], parts / members);
    for (uint32_t node = 2; node <= members; ++node)
      EXPECT_EQ(after_loss[node], parts / (members - 1));
  }
  EXPECT_EQ(fetch_turns(1, 5), (std::vector<uint32_t>{1}));
}

} // namespace
} // namespace troupe::policies
