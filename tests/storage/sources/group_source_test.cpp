#include "storage/sources/group_source.hpp"

#include <algorithm>
#include <deque>
#include <optional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "storage/errors.hpp"

namespace troupe::storage {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr uint64_t part = 100;
const std::string digest(64, 'a');

/// A source that has `content` up to where a test says, and then fails as the test says.
class scripted_source final : public source {
public:
  explicit scripted_source(std::string name, std::string content)
      : name_{std::move(name)}, content_{std::move(content)} {}

  const std::string& name() const override { return name_; }
  caf::expected<source_file> stat(const std::string& path, std::stop_token) override {
    return source_file{
        .path = path, .size_bytes = content_.size(), .version = "1", .sha256 = digest};
  }
  caf::expected<std::vector<source_file>> list(std::stop_token) override { return errc::not_found; }
  caf::error stream(const source_file& file, byte_range range, const byte_sink& sink,
                    std::stop_token) override {
    reads.push_back(range);
    versions.push_back(file.version);
    const auto why = failures.empty() ? caf::error{} : failures.front();
    if (!failures.empty())
      failures.pop_front();
    const auto good = why ? std::min(good_bytes, range.length) : range.length;
    const auto bytes = std::as_bytes(std::span{content_}).subspan(range.offset, good);
    if (auto wrong = good == 0 ? caf::error{} : sink(bytes))
      return wrong;
    return why;
  }
  std::vector<byte_range> doubt(const source_file&) override { return {{1, 2}}; }

  std::vector<uint64_t> offsets() const {
    std::vector<uint64_t> out;
    for (const auto& read : reads)
      out.push_back(read.offset);
    return out;
  }

  std::deque<caf::error> failures; ///< of the next reads
  uint64_t good_bytes = 0;         ///< that come before a failure
  std::vector<byte_range> reads;
  std::vector<std::string> versions;

private:
  const std::string name_, content_;
};

caf::error failure(errc code) { return caf::make_error(code, "scripted"); }

/// This node is the second of three; the file's parts are the first's, its own, the third's, the
/// first's and so on.
class group_source_test : public testing::Test {
protected:
  group_source_test() {
    for (int i = 0; i < 600; ++i)
      content_ += static_cast<char>('a' + i * 7 % 26);
    for (auto* one : {&origin, &first, &third})
      *one = std::make_shared<scripted_source>(one == &origin  ? "origin"
                                               : one == &first ? "peer 1"
                                                               : "peer 3",
                                               content_);
    make({first, nullptr, third}, {});
  }
  void make(std::vector<std::shared_ptr<source>> members, group_options options) {
    options.part_bytes = part;
    options.warn = [this](const std::string& text) { warnings.push_back(text); };
    const auto turns = [this, count = members.size()](uint64_t index) {
      std::vector<uint32_t> out;
      // Which part a file begins with is the group's own business.
      for (size_t i = 0; i < count; ++i)
        out.push_back(static_cast<uint32_t>((index - base_ + i) % count + 1));
      return out;
    };
    base_ = 0;
    all.emplace(origin, fetch_group{members, turns}, options);
    while (members.size() == 3 && all->comes_from_peer(file, part))
      ++base_;
  }
  caf::error read(byte_range range) {
    const auto keep = [&](std::span<const std::byte> piece) -> caf::error {
      got.append(reinterpret_cast<const char*>(piece.data()), piece.size());
      return {};
    };
    return all->stream(file, range, keep);
  }

  std::shared_ptr<scripted_source> origin, first, third;
  source_file file{.path = "w", .size_bytes = 600, .version = "etag", .sha256 = digest};
  std::optional<group_source> all;
  std::string got;
  std::vector<std::string> warnings;

  std::string content_;
  uint64_t base_ = 0;
};

TEST_F(group_source_test, each_part_comes_from_the_node_that_fetches_it) {
  ASSERT_FALSE(read({0, 600}));
  EXPECT_EQ(got, content_);
  EXPECT_THAT(first->offsets(), ElementsAre(0, 300));
  EXPECT_THAT(origin->offsets(), ElementsAre(100, 400));
  EXPECT_THAT(third->offsets(), ElementsAre(200, 500));
  EXPECT_EQ(first->versions.front(), "sha256:" + digest);
  EXPECT_EQ(origin->versions.front(), "etag");
  EXPECT_TRUE(warnings.empty());
}

TEST_F(group_source_test, what_nothing_names_for_all_comes_from_the_origin_alone) {
  file.sha256.clear();
  ASSERT_FALSE(read({0, 600}));
  EXPECT_EQ(origin->reads.size(), 1u);
  EXPECT_FALSE(all->comes_from_peer(file, 0));
}

TEST_F(group_source_test, what_nodes_do_not_offer_comes_from_the_origin_alone) {
  make({first, nullptr, third}, {.offered = [](const std::string& path) { return path != "w"; }});
  ASSERT_FALSE(read({0, 600}));
  EXPECT_EQ(origin->reads.size(), 1u);
  EXPECT_TRUE(first->reads.empty());
}

TEST_F(group_source_test, one_address_and_validator_name_a_file_for_all) {
  file.sha256.clear();
  file.addressed = "https://host/m w \"etag\"";
  ASSERT_FALSE(read({0, 600}));
  EXPECT_EQ(got, content_);
  EXPECT_EQ(origin->reads.size(), 2u);
  EXPECT_EQ(first->versions.front(), file.addressed);
}

TEST_F(group_source_test, what_is_on_its_way_to_a_node_is_waited_for) {
  first->failures = {failure(errc::not_found), failure(errc::not_yet), failure(errc::not_yet)};
  first->good_bytes = 30;
  ASSERT_FALSE(read({0, part}));
  EXPECT_EQ(got, content_.substr(0, part));
  EXPECT_THAT(first->offsets(), ElementsAre(0, 30, 60, 90));
  EXPECT_TRUE(origin->reads.empty());
  EXPECT_TRUE(warnings.empty());
}

TEST_F(group_source_test, a_node_that_takes_too_long_is_left_out) {
  make({first, nullptr, third}, {.patience = 0ms});
  first->failures = {failure(errc::not_yet)};
  ASSERT_FALSE(read({0, part}));
  ASSERT_FALSE(read({300, part}));
  EXPECT_EQ(got, content_.substr(0, part) + content_.substr(300, part));
  EXPECT_EQ(first->reads.size(), 1u);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_THAT(warnings[0], HasSubstr("peer 1 is left out: it takes too long"));
}

TEST_F(group_source_test, a_node_that_never_hears_of_the_files_is_left_out) {
  make({first, nullptr, third}, {.start = 0ms});
  first->failures = {failure(errc::not_found)};
  ASSERT_FALSE(read({0, part}));
  EXPECT_EQ(got, content_.substr(0, part));
  EXPECT_EQ(warnings.size(), 1u);
}

TEST_F(group_source_test,
       a_node_that_breaks_off_costs_what_it_owed_and_the_next_ones_take_its_parts) {
  first->failures = {failure(errc::unavailable)};
  first->good_bytes = 40;
  EXPECT_TRUE(all->comes_from_peer(file, 300));
  ASSERT_FALSE(read({0, 600}));
  EXPECT_EQ(got, content_);
  EXPECT_THAT(first->offsets(), ElementsAre(0));
  EXPECT_THAT(origin->offsets(), ElementsAre(40, 100, 300, 400));
  EXPECT_FALSE(all->comes_from_peer(file, 300));
  // Its own parts first, then what it took over.
  EXPECT_THAT(warnings, ElementsAre("peer 1 is left out: " + describe(failure(errc::unavailable))));
}

TEST_F(group_source_test, what_others_have_is_taken_from_them_if_the_origin_fails) {
  origin->failures = {failure(errc::unavailable)};
  origin->good_bytes = 10;
  ASSERT_FALSE(read({100, part}));
  EXPECT_EQ(got, content_.substr(100, part));
  EXPECT_THAT(third->offsets(), ElementsAre(110));
}

TEST_F(group_source_test, nobody_is_waited_for_that_waits_for_this_node) {
  origin->failures = {failure(errc::unavailable)};
  third->failures = {failure(errc::not_yet)};
  first->failures = {failure(errc::not_found)};
  EXPECT_EQ(read({100, part}), errc::unavailable);
  EXPECT_EQ(third->reads.size(), 1u);
  EXPECT_EQ(first->reads.size(), 1u);
  EXPECT_TRUE(warnings.empty());
  ASSERT_FALSE(read({100, part})); // the origin has come back
  EXPECT_EQ(origin->reads.size(), 2u);
}

TEST_F(group_source_test, another_version_at_the_origin_is_told_at_once) {
  origin->failures = {failure(errc::changed)};
  EXPECT_EQ(read({100, part}), errc::changed);
  EXPECT_TRUE(third->reads.empty());
}

TEST_F(group_source_test, who_is_not_of_the_group_takes_all_from_it) {
  make({first, third}, {});
  ASSERT_FALSE(read({0, 600}));
  EXPECT_EQ(got, content_);
  EXPECT_TRUE(origin->reads.empty());
  first->failures = third->failures = {failure(errc::unavailable)};
  ASSERT_FALSE(read({0, part}));
  EXPECT_EQ(origin->reads.size(), 1u);
}

TEST_F(group_source_test, wrong_bytes_may_have_come_from_all_that_gave_some) {
  ASSERT_FALSE(read({0, 350}));
  const auto parts = all->doubt(file);
  ASSERT_EQ(parts.size(), 3u);
  uint64_t bytes = 0;
  for (const auto& range : parts)
    bytes += range.length;
  EXPECT_EQ(bytes, 250u);
  EXPECT_EQ(warnings.size(), 2u);
  got.clear();
  ASSERT_FALSE(read({0, 600}));
  EXPECT_EQ(got, content_);
  EXPECT_EQ(first->reads.size() + third->reads.size(), 3u);
  // Nobody of the group is left to doubt.
  EXPECT_EQ(all->doubt(file).size(), 1u);
}

} // namespace
} // namespace troupe::storage
