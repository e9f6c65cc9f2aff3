// The download engine against a source in memory that fails in every way that a source may.
#include "storage/store/download.hpp"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

#include <gtest/gtest.h>

#include "storage/errors.hpp"
#include "storage/model_dir.hpp"
#include "tests/storage/model_files.hpp"

namespace troupe::storage {
namespace {

using test::temporary_directory;

std::string pattern(size_t size, unsigned seed) {
  std::string out(size, '\0');
  uint32_t x = seed * 2654435761u + 1;
  for (auto& c : out) {
    x = x * 1664525u + 1013904223u;
    c = static_cast<char>(x >> 24);
  }
  return out;
}

std::string digest_of(const std::string& text) {
  sha256 sum;
  sum.add(std::as_bytes(std::span{text}));
  return sum.hex();
}

/// Files in memory. `before` is asked ahead of every read: an error it returns comes after
/// `then_bytes` bytes of it.
class scripted_source final : public source {
public:
  const std::string& name() const override { return name_; }
  caf::expected<source_file> stat(const std::string& path, std::stop_token) override {
    const std::lock_guard guard{mutex};
    const auto at = files.find(path);
    if (at == files.end())
      return caf::make_error(errc::not_found, path);
    return source_file{path, at->second.size(), std::to_string(version[path]),
                       sums ? digest_of(at->second) : ""};
  }
  caf::expected<std::vector<source_file>> list(std::stop_token) override { return errc::not_found; }
  bool comes_from_peer(const source_file&, uint64_t offset) const override {
    return of_peers && of_peers(offset);
  }
  caf::error stream(const source_file& file, byte_range range, const byte_sink& sink,
                    std::stop_token) override {
    std::string content;
    caf::error why;
    size_t bytes = range.length;
    if (reading)
      reading(range);
    {
      const std::lock_guard guard{mutex};
      reads.push_back(range);
      if (before)
        std::tie(why, bytes) = before(file, range);
      if (std::to_string(version[file.path]) != file.version)
        return caf::make_error(errc::changed, "another version");
      content = served.contains(file.path) ? served[file.path] : files[file.path];
    }
    const auto part = content.substr(range.offset, std::min<size_t>(bytes, range.length));
    sent += part.size();
    if (!part.empty())
      if (auto wrong = sink(std::as_bytes(std::span{part})))
        return wrong;
    return why;
  }

  std::function<std::pair<caf::error, size_t>(const source_file&, byte_range)> before;
  unsigned peers() const override { return nodes - 1; }

  std::function<void(byte_range)> reading; ///< by any number of threads at once
  std::function<bool(uint64_t offset)> of_peers;
  unsigned nodes = 1;
  std::map<std::string, std::string> files;
  std::map<std::string, std::string> served; ///< in place of the right bytes
  std::map<std::string, int> version;
  bool sums = true;
  std::mutex mutex;
  std::vector<byte_range> reads;
  std::atomic<uint64_t> sent = 0;

private:
  std::string name_ = "memory";
};

class download_test : public testing::Test {
protected:
  caf::error fetch(std::stop_token stop = {}) {
    auto layout = make_store_layout(dir.path(), "m", *parse_location("https://host/m"));
    download all{from, **layout, how, observer};
    for (const auto& [path, content] : from.files)
      all.add(*from.stat(path, {}));
    if (auto why = all.run(stop))
      return why;
    last = all.progress();
    return (*layout)->publish(all.files(), {});
  }
  std::string got(const std::string& path) {
    return read_small_file(dir.path() / "m" / path, 1 << 30);
  }

  temporary_directory dir;
  scripted_source from;
  pull_setup how{.store_dir = {},
                 .hub_cache = {},
                 .connections = 4,
                 .part_bytes = size_t{1} << 20,
                 .retries = [](unsigned failures) -> std::optional<std::chrono::milliseconds> {
                   if (failures > 3)
                     return std::nullopt;
                   return std::chrono::milliseconds{0};
                 },
                 .over = nullptr};
  pull_observer observer;
  pull_progress last;
};

TEST_F(download_test, fetches_files_of_all_sizes_in_parts_and_counts_every_byte) {
  from.files = {{"empty", ""}, {"one", "x"}, {"big", pattern((5u << 20) + 3, 1)}};
  ASSERT_FALSE(fetch());
  for (const auto& [path, content] : from.files)
    EXPECT_EQ(got(path), content) << path;
  EXPECT_EQ(last.fetched_bytes, last.total_bytes);
  EXPECT_EQ(last.done_bytes, last.total_bytes);
  const auto sent = from.sent.load();
  ASSERT_FALSE(fetch());
  EXPECT_EQ(from.sent, sent) << "nothing is fetched twice";
  EXPECT_EQ(last.fetched_bytes, 0u);
}

TEST_F(download_test, all_parts_that_other_nodes_are_fetching_are_followed_at_once) {
  from.files = {{"big", pattern(8u << 20, 3)}};
  from.nodes = 4;
  from.of_peers = [](uint64_t offset) { return offset >= 2u << 20; };
  std::mutex mutex;
  std::condition_variable changed;
  int following = 0;
  bool all_at_once = true;
  from.reading = [&](byte_range range) {
    std::unique_lock guard{mutex};
    following += from.of_peers(range.offset);
    changed.notify_all();
    // None of them ends before all have begun.
    if (from.of_peers(range.offset))
      all_at_once &=
          changed.wait_for(guard, std::chrono::seconds{20}, [&] { return following >= 6; });
  };
  ASSERT_FALSE(fetch());
  EXPECT_TRUE(all_at_once);
  EXPECT_EQ(got("big"), from.files["big"]);
}

TEST_F(download_test, what_is_left_over_by_lost_nodes_takes_no_more_connections) {
  from.files = {{"big", pattern(16u << 20, 4)}};
  from.nodes = 4;
  std::atomic<int> now = 0, most = 0;
  from.reading = [&](byte_range) {
    const int at_once = ++now;
    for (int seen = most; seen < at_once && !most.compare_exchange_weak(seen, at_once);)
      continue;
    std::this_thread::yield();
    --now;
  };
  ASSERT_FALSE(fetch());
  EXPECT_LE(most, 4);
}

TEST_F(download_test, goes_on_where_a_read_broke_off) {
  from.files = {{"big", pattern(4u << 20, 2)}};
  int breaks = 10;
  from.before = [&](const source_file&, byte_range range) -> std::pair<caf::error, size_t> {
    if (breaks-- > 0)
      return {caf::make_error(errc::unavailable, "broke"), 100'000};
    return {{}, range.length};
  };
  ASSERT_FALSE(fetch());
  EXPECT_EQ(got("big"), from.files["big"]);
  EXPECT_EQ(from.sent, from.files["big"].size());
}

TEST_F(download_test, gives_up_after_failures_without_a_byte_and_the_next_one_goes_on) {
  from.files = {{"big", pattern(8u << 20, 3)}};
  from.before = [&](const source_file&, byte_range range) -> std::pair<caf::error, size_t> {
    if (range.offset >= 4u << 20)
      return {caf::make_error(errc::unavailable, "down"), 0};
    return {{}, range.length};
  };
  EXPECT_EQ(fetch(), errc::unavailable);
  EXPECT_EQ(got("big"), "");
  from.before = nullptr;
  ASSERT_FALSE(fetch());
  EXPECT_EQ(got("big"), from.files["big"]);
  EXPECT_EQ(from.sent, from.files["big"].size());
}

TEST_F(download_test, damaged_bytes_are_fetched_again_and_never_published) {
  from.files = {{"w", pattern(3u << 20, 4)}};
  from.served["w"] = from.files["w"];
  from.served["w"][12345] ^= 1;
  const auto why = fetch();
  EXPECT_EQ(why, errc::corrupted);
  EXPECT_NE(describe(why).find("fetching w from memory"), std::string::npos) << describe(why);
  EXPECT_EQ(got("w"), "");
  from.served.clear();
  ASSERT_FALSE(fetch());
  EXPECT_EQ(got("w"), from.files["w"]);
}

TEST_F(download_test, a_file_that_is_replaced_meanwhile_is_fetched_as_it_is_then) {
  from.sums = false;
  from.files = {{"w", pattern(6u << 20, 5)}};
  bool replaced = false;
  from.before = [&](const source_file&, byte_range range) -> std::pair<caf::error, size_t> {
    if (range.offset >= 3u << 20 && !std::exchange(replaced, true)) {
      from.files["w"] = pattern((5u << 20) + 1, 6);
      ++from.version["w"];
    }
    return {{}, range.length};
  };
  ASSERT_FALSE(fetch());
  EXPECT_EQ(got("w"), from.files["w"]);
}

TEST_F(download_test, a_source_that_ignores_ranges_is_read_in_one_go) {
  from.files = {{"w", pattern(5u << 20, 7)}};
  from.before = [&](const source_file&, byte_range range) -> std::pair<caf::error, size_t> {
    if (range.offset != 0)
      return {caf::make_error(errc::unsupported, "no ranges"), 0};
    return {{}, range.length};
  };
  ASSERT_FALSE(fetch());
  EXPECT_EQ(got("w"), from.files["w"]);
  EXPECT_EQ(from.reads.back().length, from.files["w"].size());
}

TEST_F(download_test, what_cannot_be_had_fails_once_and_stops_everything) {
  from.files = {{"a", pattern(2u << 20, 8)}, {"b", pattern(2u << 20, 9)}};
  std::atomic<int> refusals = 0;
  from.before = [&](const source_file& file, byte_range range) -> std::pair<caf::error, size_t> {
    if (file.path == "b" && ++refusals > 0)
      return {caf::make_error(errc::denied, "no"), 0};
    return {{}, range.length};
  };
  EXPECT_EQ(fetch(), errc::denied);
  EXPECT_LE(refusals, 2) << "one for each part that was open";
  EXPECT_EQ(got("a"), "") << "nothing is published";
}

TEST_F(download_test, a_stop_request_ends_it_and_keeps_what_has_come) {
  from.files = {{"w", pattern(16u << 20, 10)}};
  std::stop_source stopper;
  from.before = [&](const source_file&, byte_range range) -> std::pair<caf::error, size_t> {
    if (range.offset >= 8u << 20)
      stopper.request_stop();
    return {{}, range.length};
  };
  EXPECT_EQ(fetch(stopper.get_token()), errc::cancelled);
  const auto before = from.sent.load();
  EXPECT_LT(before, 16u << 20);
  from.before = nullptr;
  ASSERT_FALSE(fetch());
  EXPECT_EQ(got("w"), from.files["w"]);
  EXPECT_EQ(from.sent, 16u << 20) << "no byte twice";
}

TEST_F(download_test, parts_that_others_wait_for_do_not_wait_for_theirs) {
  constexpr uint64_t step = 1u << 20;
  from.files = {{"w", pattern(8 * step, 12)}};
  how.connections = 2;
  from.of_peers = [](uint64_t offset) { return offset / step % 4 != 3; };
  std::vector<uint64_t> order;
  std::condition_variable_any changed;
  bool in_time = true;
  from.before = [&](const source_file&, byte_range range) -> std::pair<caf::error, size_t> {
    order.push_back(range.offset);
    changed.notify_all();
    const auto own_begun = [&] { return std::ranges::count_if(order, std::not_fn(from.of_peers)); };
    if (from.of_peers(range.offset)) // as if the peers needed all of this node's parts first
      in_time = changed.wait_for(from.mutex, std::chrono::seconds{30}, [&] {
        return own_begun() == 2;
      }) && in_time;
    return {{}, range.length};
  };
  ASSERT_FALSE(fetch());
  EXPECT_TRUE(in_time);
  EXPECT_EQ(got("w"), from.files["w"]);
  EXPECT_EQ(order.size(), 8u);
}

TEST_F(download_test, an_observer_sees_it_grow_to_the_whole) {
  from.files = {{"a", "abc"}, {"w", pattern(8u << 20, 11)}};
  uint64_t seen = 0;
  observer = [&](const pull_progress& x) {
    EXPECT_GE(x.done_bytes, seen);
    EXPECT_EQ(x.files.size(), 2u);
    seen = x.done_bytes;
  };
  ASSERT_FALSE(fetch());
  EXPECT_EQ(seen, (8u << 20) + 3);
}

/// Fetches with the weights wanted early; `hears` gets what comes of them.
class early_download_test : public download_test {
protected:
  void begin(const std::vector<std::string>& early) {
    layout_ = std::move(*make_store_layout(dir.path(), "m", *parse_location("https://host/m")));
    all_.emplace(from, *layout_, how, observer);
    for (const auto& [path, content] : from.files) {
      const bool wanted = std::ranges::find(early, path) != early.end();
      coming[path] = all_->add(*from.stat(path, {}), wanted);
    }
  }
  download& all() { return *all_; }

  std::map<std::string, std::shared_ptr<arrival>> coming;

private:
  std::unique_ptr<model_layout> layout_;
  std::optional<download> all_;
};

TEST_F(early_download_test, heads_come_first_and_then_the_files_as_they_are_preferred) {
  how.connections = 1;
  from.files = {{"a", pattern(3u << 20, 1)}, {"b", pattern(3u << 20, 2)}, {"z", "small"}};
  begin({"a", "b"});
  ASSERT_TRUE(coming["a"] && coming["b"] && !coming["z"]);
  coming["b"]->when_there({0, 100}, [&](const caf::error& why) {
    EXPECT_FALSE(why);
    all().prefer({{coming["b"]->place(), {0, 3u << 20}}, {coming["a"]->place(), {0, 3u << 20}}});
  });
  ASSERT_FALSE(all().run({}));
  std::vector<uint64_t> lengths;
  for (const auto& read : from.reads)
    lengths.push_back(read.length);
  const std::vector<uint64_t> heads_first{256 << 10, 256 << 10, 5};
  EXPECT_EQ(std::vector(lengths.begin(), lengths.begin() + 3), heads_first);
  EXPECT_TRUE(coming["a"]->has({0, 3u << 20}));
  EXPECT_FALSE(coming["a"]->why());
}

TEST_F(early_download_test, without_a_checksum_the_parts_of_a_file_come_as_they_are_preferred) {
  how.connections = 1;
  from.sums = false;
  from.files = {{"a", pattern(4u << 20, 1)}};
  begin({"a"});
  coming["a"]->when_there({0, 1}, [&](const caf::error&) {
    all().prefer({{coming["a"]->place(), {3u << 20, 5}}, {coming["a"]->place(), {1u << 20, 5}}});
  });
  ASSERT_FALSE(all().run({}));
  ASSERT_EQ(from.reads.size(), 5u);
  EXPECT_EQ(from.reads[1].offset, 3u << 20);
  EXPECT_EQ(from.reads[2].offset, 1u << 20);
}

TEST_F(early_download_test, a_wrong_checksum_fails_the_arrival_and_the_file_comes_anew) {
  from.files = {{"a", pattern(2u << 20, 1)}};
  auto wrong = from.files["a"];
  wrong[12345] ^= 1;
  from.served["a"] = wrong;
  begin({"a"});
  std::optional<caf::error> said;
  coming["a"]->when_checked([&](const caf::error& why) {
    said = why;
    const std::lock_guard guard{from.mutex};
    from.served.clear();
  });
  ASSERT_FALSE(all().run({}));
  ASSERT_TRUE(said);
  EXPECT_EQ(*said, errc::corrupted);
}

TEST_F(early_download_test, what_an_earlier_attempt_left_is_there_at_once) {
  from.files = {{"a", pattern(4u << 20, 1)}};
  from.before = [&](const source_file&, byte_range range) -> std::pair<caf::error, size_t> {
    if (range.offset >= 3u << 20)
      return {caf::make_error(errc::denied, "no more"), 0};
    return {{}, range.length};
  };
  how.connections = 1;
  begin({"a"});
  EXPECT_EQ(all().run({}), errc::denied);
  const auto first = coming["a"];
  EXPECT_TRUE(first->has({0, 3u << 20}));
  from.before = {};
  const auto sent = from.sent.load();
  begin({"a"});
  ASSERT_FALSE(all().run({}));
  EXPECT_EQ(from.sent - sent, 1u << 20);
  EXPECT_TRUE(coming["a"]->has({0, 4u << 20}));
}

} // namespace
} // namespace troupe::storage
