#include "storage/sources/mirror_source.hpp"

#include <algorithm>
#include <atomic>
#include <map>

#include <gtest/gtest.h>

#include "storage/errors.hpp"

namespace troupe::storage {
namespace {

const std::string digest(64, 'a'), other_digest(64, 'b');

/// A source of one file that does as it is told.
class scripted_source final : public source {
public:
  scripted_source(std::string name, source_file file, std::string content)
      : name_{std::move(name)}, file_{std::move(file)}, content_{std::move(content)} {}

  const std::string& name() const override { return name_; }
  caf::expected<source_file> stat(const std::string& path, std::stop_token) override {
    if (gone)
      return caf::make_error(errc::unavailable, name_ + " is gone");
    if (path != file_.path)
      return caf::make_error(errc::not_found, path);
    return file_;
  }
  caf::expected<std::vector<source_file>> list(std::stop_token stop) override {
    auto one = stat(file_.path, stop);
    if (!one)
      return std::move(one.error());
    return std::vector{*one};
  }
  caf::error stream(const source_file& file, byte_range range, const byte_sink& sink,
                    std::stop_token) override {
    ++reads;
    EXPECT_EQ(file.version, file_.version);
    const auto good = std::min(range.length, good_bytes);
    const auto bytes = std::as_bytes(std::span{content_}).subspan(range.offset, good);
    if (auto why = good == 0 ? caf::error{} : sink(bytes))
      return why;
    return good == range.length ? caf::error{} : caf::make_error(failure, name_ + " was cut off");
  }

  bool gone = false;
  uint64_t good_bytes = UINT64_MAX; ///< of each read
  errc failure = errc::unavailable; ///< what comes behind them
  std::atomic<int> reads = 0;

private:
  const std::string name_;
  const source_file file_;
  const std::string content_;
};

source_file file_of(uint64_t size, std::string version, std::string sha256) {
  return {
      .path = "w", .size_bytes = size, .version = std::move(version), .sha256 = std::move(sha256)};
}

struct fixture {
  explicit fixture(std::vector<std::shared_ptr<scripted_source>> from) : sources{std::move(from)} {
    all = std::make_unique<mirror_source>(
        std::vector<std::shared_ptr<source>>{sources.begin(), sources.end()},
        [this](const std::string& text) { warnings.push_back(text); });
  }
  /// Lists and matches, as a download does.
  caf::expected<source_file> look() {
    auto listed = all->list();
    if (!listed)
      return std::move(listed.error());
    return all->match(std::move(*listed), {}).front();
  }
  caf::error read(const source_file& file, byte_range range, std::string& to) {
    const auto keep = [&](std::span<const std::byte> piece) -> caf::error {
      to.append(reinterpret_cast<const char*>(piece.data()), piece.size());
      return {};
    };
    return all->stream(file, range, keep);
  }
  std::string read_in_parts(const source_file& file, uint64_t step) {
    std::string out;
    for (uint64_t at = 0; at < file.size_bytes; at += step)
      EXPECT_FALSE(read(file, {at, std::min(step, file.size_bytes - at)}, out));
    return out;
  }

  std::vector<std::shared_ptr<scripted_source>> sources;
  std::vector<std::string> warnings;
  std::unique_ptr<mirror_source> all;
};

std::string text_of(size_t size) {
  std::string out;
  for (size_t i = 0; i < size; ++i)
    out += static_cast<char>('a' + i * 7 % 26);
  return out;
}

std::shared_ptr<scripted_source> make(const char* name, const std::string& content,
                                      const std::string& sha256) {
  return std::make_shared<scripted_source>(name, file_of(content.size(), name, sha256), content);
}

TEST(mirror_source, draws_on_all_and_asks_each_for_its_own_version) {
  const auto content = text_of(1000);
  fixture x{{make("a://1", content, digest), make("b://2", content, digest)}};
  const auto file = x.look();
  ASSERT_TRUE(file);
  EXPECT_EQ(x.read_in_parts(*file, 100), content);
  EXPECT_GT(x.sources[0]->reads, 0);
  EXPECT_GT(x.sources[1]->reads, 0);
  EXPECT_TRUE(x.warnings.empty());
  EXPECT_EQ(x.all->shares()[0].bytes + x.all->shares()[1].bytes, content.size());
}

TEST(mirror_source, goes_on_elsewhere_where_one_breaks_off_and_says_so_once) {
  const auto content = text_of(1000);
  for (const size_t broken : {0, 1}) {
    fixture x{{make("a://1", content, digest), make("b://2", content, digest)}};
    const auto file = x.look();
    x.sources[broken]->good_bytes = 30;
    EXPECT_EQ(x.read_in_parts(*file, 100), content);
    EXPECT_EQ(x.sources[broken]->reads, 1);
    ASSERT_EQ(x.warnings.size(), 1);
    EXPECT_NE(x.warnings[0].find(x.sources[broken]->name() + " is left out"), std::string::npos);
    EXPECT_NE(x.warnings[0].find("was cut off"), std::string::npos);
  }
}

TEST(mirror_source, who_has_not_got_a_part_yet_is_asked_for_others) {
  const auto content = text_of(1000);
  fixture x{{make("a://1", content, digest), make("b://2", content, digest)}};
  const auto file = x.look();
  x.sources[1]->failure = errc::not_yet;
  x.sources[1]->good_bytes = 30;
  EXPECT_EQ(x.read_in_parts(*file, 100), content);
  EXPECT_GT(x.sources[1]->reads, 0);
  EXPECT_TRUE(x.warnings.empty());
  x.sources[1]->good_bytes = UINT64_MAX;
  x.sources[0]->good_bytes = 0;
  EXPECT_EQ(x.read_in_parts(*file, 100), content);
  EXPECT_EQ(x.warnings.size(), 1);
}

TEST(mirror_source, asks_the_first_one_for_checksums_that_its_listing_lacks) {
  const auto content = text_of(1000);
  fixture x{{make("a://1", content, digest), make("b://2", content, "")}};
  auto listed = *x.all->list();
  listed.front().sha256.clear();
  auto file = x.all->match(listed, {}).front();
  EXPECT_EQ(file.sha256, digest);
  EXPECT_EQ(x.read_in_parts(file, 100), content);
  EXPECT_GT(x.sources[1]->reads, 0);
  // Another version than the one that was listed.
  listed.front().version = "elsewhere";
  EXPECT_EQ(x.all->match(listed, {}).front().sha256, "");
}

TEST(mirror_source, names_all_when_none_is_left_and_tries_all_again) {
  const auto content = text_of(100);
  fixture x{{make("a://1", content, digest), make("b://2", content, digest)}};
  const auto file = x.look();
  std::string out;
  for (const auto& one : x.sources)
    one->good_bytes = 0;
  const auto why = describe(x.read(*file, {0, 100}, out));
  EXPECT_NE(why.find("a://1 was cut off"), std::string::npos) << why;
  EXPECT_NE(why.find("b://2 was cut off"), std::string::npos) << why;
  for (const auto& one : x.sources)
    one->good_bytes = UINT64_MAX;
  EXPECT_FALSE(x.read(*file, {0, 100}, out));
  EXPECT_EQ(out, content);
}

TEST(mirror_source, leaves_out_who_has_another_file) {
  const auto content = text_of(100);
  for (const bool longer : {true, false}) {
    fixture x{{make("a://1", content, digest),
               make("b://2", longer ? content + "x" : content, longer ? digest : other_digest)}};
    const auto file = x.look();
    EXPECT_EQ(x.read_in_parts(*file, 10), content);
    EXPECT_EQ(x.sources[1]->reads, 0);
    ASSERT_EQ(x.warnings.size(), 1);
    EXPECT_NE(x.warnings[0].find(longer ? "has 101 bytes there, not 100" : "another checksum"),
              std::string::npos)
        << x.warnings[0];
  }
}

TEST(mirror_source, does_not_mix_what_nothing_proves_to_be_the_same) {
  const auto content = text_of(100);
  fixture x{{make("a://1", content, ""), make("b://2", content, "")}};
  const auto file = x.look();
  EXPECT_EQ(x.read_in_parts(*file, 10), content);
  EXPECT_EQ(x.sources[1]->reads, 0);
  ASSERT_EQ(x.warnings.size(), 1);
  EXPECT_NE(x.warnings[0].find("nothing proves"), std::string::npos);
}

TEST(mirror_source, mixes_copies_of_one_address_and_validator) {
  const auto content = text_of(100);
  const auto copy = [&](const char* name, const char* addressed) {
    auto file = file_of(content.size(), name, "");
    file.addressed = addressed;
    return std::make_shared<scripted_source>(name, file, content);
  };
  fixture x{
      {copy("a://1", "h w 1"), copy("b://2", "h w 1"), copy("c://3", "h w 2"), copy("d://4", "")}};
  const auto file = x.look();
  EXPECT_EQ(x.read_in_parts(*file, 10), content);
  EXPECT_GT(x.sources[0]->reads, 0);
  EXPECT_GT(x.sources[1]->reads, 0);
  EXPECT_EQ(x.sources[2]->reads, 0);
  EXPECT_EQ(x.sources[3]->reads, 0);
}

TEST(mirror_source, learns_a_checksum_from_whoever_vouches_for_one) {
  const auto content = text_of(100);
  fixture x{{make("a://1", content, ""), make("b://2", content, digest)}};
  const auto file = x.look();
  ASSERT_TRUE(file);
  EXPECT_EQ(file->sha256, digest);
  EXPECT_EQ(file->version, "a://1");
}

TEST(mirror_source, gives_up_who_vouched_for_nothing_when_the_whole_is_wrong) {
  const auto content = text_of(1000);
  fixture x{{make("a://1", content, digest), make("b://2", content, "")}};
  const auto file = x.look();
  EXPECT_EQ(x.read_in_parts(*file, 100), content);
  uint64_t doubtful = 0;
  for (const auto& part : x.all->doubt(*file))
    doubtful += part.length;
  EXPECT_EQ(doubtful, x.all->shares()[1].bytes);
  ASSERT_EQ(x.warnings.size(), 1);
  const auto before = x.sources[1]->reads.load();
  EXPECT_EQ(x.read_in_parts(*file, 100), content);
  EXPECT_EQ(x.sources[1]->reads, before);
  EXPECT_TRUE(x.all->doubt(*file).empty()); // then it is the first one's own
}

TEST(mirror_source, another_takes_the_place_of_a_first_one_that_is_gone) {
  const auto content = text_of(100);
  fixture x{{make("a://1", content, digest), make("b://2", content, digest)}};
  x.sources[0]->gone = true;
  const auto file = x.look();
  ASSERT_TRUE(file);
  EXPECT_EQ(x.all->primary(), 1);
  EXPECT_EQ(x.all->name(), "b://2");
  EXPECT_EQ(x.read_in_parts(*file, 10), content);
  ASSERT_EQ(x.warnings.size(), 1);
  x.sources[1]->gone = true;
  const auto why = describe(x.all->list().error());
  EXPECT_NE(why.find("a://1 is gone"), std::string::npos) << why;
  EXPECT_NE(why.find("b://2 is gone"), std::string::npos) << why;
}

TEST(delivery_shares, who_delivers_twice_as_much_is_asked_for_twice_as_much) {
  delivery_shares shares{2};
  delivery_shares::clock::time_point now{};
  shares.owe(0, 200, now), shares.owe(1, 100, now);
  now += std::chrono::seconds{1};
  shares.came(0, 200, now), shares.came(1, 100, now);
  std::map<size_t, int> asked;
  for (int i = 0; i < 30; ++i) {
    const auto next = *shares.choose(10);
    shares.owe(next, 10, now);
    ++asked[next];
  }
  EXPECT_EQ(asked[0], 20);
  EXPECT_EQ(asked[1], 10);
  shares.lose(0);
  EXPECT_EQ(shares.choose(10), 1u);
  EXPECT_FALSE(shares.choose(10, [](size_t i) { return i == 0; }));
}

} // namespace
} // namespace troupe::storage
