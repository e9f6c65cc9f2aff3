// Nodes that fetch one file from an origin at the same time: downloads, and the data plane between
// them.
#include <algorithm>
#include <fstream>
#include <mutex>
#include <thread>

#include <fcntl.h>

#include "policies/fan_out.hpp"
#include "storage/errors.hpp"
#include "storage/store/download.hpp"
#include "tests/storage/peers/peer_fixture.hpp"

namespace troupe::storage {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using test::serving_node;

constexpr uint64_t part = 1u << 20;
constexpr uint64_t file_bytes = 16 * part + 4321;

/// The origin of all nodes: a file in memory.
class shared_origin {
public:
  shared_origin() : content_{test::text_of(file_bytes)} {
    sha256 sum;
    sum.add(std::as_bytes(std::span{content_}));
    about = {
        .path = "model.safetensors", .size_bytes = file_bytes, .version = "1", .sha256 = sum.hex()};
  }
  const std::string& content() const { return content_; }
  double copies() const { return static_cast<double>(sent) / file_bytes; }

  caf::error read(byte_range range, const byte_sink& sink) {
    constexpr uint64_t step = 64u << 10;
    for (uint64_t done = 0; done < range.length; done += step) {
      const byte_range now{range.offset + done, std::min(step, range.length - done)};
      {
        const std::lock_guard guard{mutex_};
        if (dies_after_one_copy && covered_.covered() == file_bytes)
          return caf::make_error(errc::unavailable, "the origin is gone");
        covered_.add(now);
      }
      sent += now.length;
      if (auto why = sink(std::as_bytes(std::span{content_}).subspan(now.offset, now.length)))
        return why;
    }
    return {};
  }

  source_file about;
  bool dies_after_one_copy = false;
  std::atomic<uint64_t> sent{0};

private:
  const std::string content_;
  std::mutex mutex_;
  range_set covered_;
};

/// What one node sees of the origin.
class view_of_origin final : public source {
public:
  explicit view_of_origin(shared_origin& from) : from_{from} {}
  const std::string& name() const override { return name_; }
  caf::expected<source_file> stat(const std::string&, std::stop_token) override {
    return from_.about;
  }
  caf::expected<std::vector<source_file>> list(std::stop_token) override {
    return std::vector{from_.about};
  }
  caf::error stream(const source_file&, byte_range range, const byte_sink& sink,
                    std::stop_token) override {
    if (before)
      if (auto why = before(range))
        return why;
    const bool lies = spoilt.exchange(false);
    return from_.read(range, [&](std::span<const std::byte> piece) {
      std::vector<std::byte> bytes{piece.begin(), piece.end()};
      if (lies)
        bytes[100] ^= std::byte{1};
      return sink(bytes);
    });
  }

  std::function<caf::error(byte_range)> before;
  std::atomic<bool> spoilt{false}; ///< the next read brings wrong bytes

private:
  shared_origin& from_;
  const std::string name_ = "memory";
};

/// Fetches on a thread of its own.
class fetching_node {
public:
  explicit fetching_node(shared_origin& from) : origin{std::make_shared<view_of_origin>(from)} {}
  ~fetching_node() { wait(); }

  void begin(const std::vector<std::unique_ptr<fetching_node>>& all) {
    fetch_group group;
    for (const auto& one : all)
      group.members.push_back(one.get() == this ? nullptr
                                                : make_peer_source(links_, one->at, "m", 20));
    const auto members = static_cast<uint32_t>(all.size());
    group.turns = [members](uint64_t index) { return policies::fetch_turns(members, index); };
    reads_ =
        std::make_shared<group_source>(origin, std::move(group), group_options{.part_bytes = part});
    thread_ = std::thread{[this] { why = fetch(); }};
  }
  void wait() {
    if (thread_.joinable())
      thread_.join();
  }
  std::string got() const {
    std::ifstream in{dir_.path() / "m" / "model.safetensors", std::ios::binary};
    return {std::istreambuf_iterator<char>{in}, {}};
  }

  const std::shared_ptr<view_of_origin> origin;
  std::unique_ptr<serving_node> serving = std::make_unique<serving_node>();
  const host_port at = serving->at();
  caf::error why;

private:
  caf::error fetch() {
    const auto layout = make_store_layout(dir_.path(), "m", *parse_location("https://host/m"));
    const pull_observer nobody;
    download all{*reads_, **layout, how_, nobody};
    const auto file = *origin->stat({}, {});
    const auto coming = all.add(file, true);
    serving->models->offer_coming("m", {{file, coming}});
    auto wrong = all.run({});
    if (!wrong)
      wrong = (*layout)->publish(all.files(), {});
    if (wrong)
      coming->fail(wrong);
    else
      serving->models->offer("m", dir_.path() / "m");
    return wrong;
  }

  test::temporary_directory dir_;
  peer_links links_;
  std::shared_ptr<group_source> reads_;
  const pull_setup how_{
      .store_dir = {},
      .hub_cache = {},
      .connections = 4,
      .part_bytes = part,
      .retries = [](unsigned failures) -> std::optional<std::chrono::milliseconds> {
        return failures > 100 ? std::nullopt : std::optional{1ms};
      },
      .over = nullptr};
  std::thread thread_;
};

class group_fetch_test : public testing::Test {
protected:
  group_fetch_test() {
    for (int i = 0; i < 4; ++i)
      nodes.push_back(std::make_unique<fetching_node>(from));
  }
  void fetch() {
    for (const auto& one : nodes)
      one->begin(nodes);
    for (const auto& one : nodes)
      one->wait();
  }
  void expect_right(const fetching_node& node) const {
    EXPECT_FALSE(node.why) << describe(node.why);
    EXPECT_TRUE(node.got() == from.content());
  }

  shared_origin from;
  std::vector<std::unique_ptr<fetching_node>> nodes;
};

TEST_F(group_fetch_test, the_origin_gives_one_copy_to_all) {
  fetch();
  for (const auto& one : nodes)
    expect_right(*one);
  EXPECT_LE(from.copies(), 1.1);
}

TEST_F(group_fetch_test, a_node_that_dies_costs_its_parts) {
  std::atomic<int> reads{0};
  nodes[1]->origin->before = [&](byte_range) -> caf::error {
    if (++reads != 2)
      return reads < 2 ? caf::error{} : caf::make_error(errc::denied, "dead");
    nodes[1]->serving->server.reset();
    return caf::make_error(errc::denied, "dead");
  };
  fetch();
  for (const auto& one : {0, 2, 3})
    expect_right(*nodes[static_cast<size_t>(one)]);
  EXPECT_TRUE(nodes[1]->why);
  EXPECT_LE(from.copies(), 1.35);
}

TEST_F(group_fetch_test, an_origin_that_dies_after_one_copy_is_needed_no_more) {
  from.dies_after_one_copy = true;
  fetch();
  for (const auto& one : nodes)
    expect_right(*one);
}

TEST_F(group_fetch_test, wrong_bytes_that_are_handed_on_are_found_by_everyone) {
  nodes[2]->origin->spoilt = true;
  fetch();
  for (const auto& one : nodes)
    expect_right(*one);
}

TEST_F(group_fetch_test, what_another_process_of_a_node_fetches_is_not_waited_for) {
  std::vector<coming_file> files{{from.about, std::make_shared<arrival>("nowhere")}};
  files.front().bytes->elsewhere();
  nodes[1]->serving->models->offer_coming("m", files);
  peer_links links;
  const auto there = make_peer_source(links, nodes[1]->serving->at(), "m", 60'000);
  std::array<std::byte, 10> into{};
  auto file = from.about;
  file.version = common_version(file);
  EXPECT_EQ(there->read(file, 0, into), errc::in_use);
}

} // namespace
} // namespace troupe::storage
