#include "storage/integrity/ledger.hpp"

#include <random>

#include <gtest/gtest.h>

#include "storage/errors.hpp"
#include "tests/storage/model_files.hpp"

namespace troupe::storage {
namespace {

namespace fs = std::filesystem;

constexpr uint32_t chunk_bytes = 4096;

class ledger_test : public testing::Test {
protected:
  std::shared_ptr<const disk_file> file(const std::string& name) {
    auto out = disk_file::open(root_.path() / name);
    EXPECT_TRUE(out) << describe(out.error());
    return *out;
  }
  void write(const std::string& name, size_t size) {
    test::write_file(root_.path() / name, std::string(size, 'x'));
  }
  /// Another state of the file with the same content.
  void touch(const std::string& name) {
    const auto path = root_.path() / name;
    fs::last_write_time(path, fs::last_write_time(path) + std::chrono::seconds{5});
  }
  std::shared_ptr<file_sums> sums(const std::string& name) {
    auto out = ledger_.open({file(name)});
    EXPECT_TRUE(out) << describe(out.error());
    return out->front();
  }

  test::temporary_directory root_;
  ledger ledger_{root_.path() / "sums", chunk_bytes};
};

TEST_F(ledger_test, what_one_process_learns_the_next_one_demands) {
  write("w", 3 * chunk_bytes + 1);
  const auto first = sums("w");
  EXPECT_FALSE(first->expected(0));
  EXPECT_FALSE(first->check(0, {1, 2}));
  EXPECT_FALSE(first->check(3 * chunk_bytes, {3, 4}));
  EXPECT_FALSE(first->save(true));
  const auto second = sums("w");
  EXPECT_EQ(second->expected(0), (checksum{1, 2}));
  EXPECT_EQ(second->expected(3 * chunk_bytes), (checksum{3, 4}));
  EXPECT_FALSE(second->expected(chunk_bytes)) << "never read, so nothing is known";
  EXPECT_FALSE(second->check(0, {1, 2}));
  EXPECT_FALSE(second->check(chunk_bytes, {5, 6}));
}

TEST_F(ledger_test, a_damaged_file_is_refused_until_it_is_replaced) {
  write("shard-2", 3 * chunk_bytes);
  const auto first = sums("shard-2");
  first->check(chunk_bytes, {1, 2});
  EXPECT_FALSE(first->save(true));
  const auto second = sums("shard-2");
  const auto why = second->check(chunk_bytes, {1, 3});
  ASSERT_TRUE(why == errc::corrupted);
  EXPECT_NE(describe(why).find("shard-2: at byte 4096 "), std::string::npos) << describe(why);
  EXPECT_FALSE(second->save(false));
  const auto refused = ledger_.open({file("shard-2")});
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error() == errc::corrupted);
  EXPECT_NE(describe(refused.error())
                .find("shard-2: at byte 4096 the checksum is " + to_string(checksum{1, 3}) +
                      " instead of " + to_string(checksum{1, 2})),
            std::string::npos)
      << describe(refused.error());
  touch("shard-2");
  const auto third = sums("shard-2");
  EXPECT_FALSE(third->expected(chunk_bytes));
}

TEST_F(ledger_test, a_load_that_failed_teaches_nothing) {
  write("w", chunk_bytes);
  const auto first = sums("w");
  first->check(0, {1, 2});
  EXPECT_FALSE(first->save(false));
  EXPECT_FALSE(sums("w")->expected(0));
}

TEST_F(ledger_test, a_model_that_was_replaced_as_a_whole_is_recorded_anew) {
  write("a", chunk_bytes), write("b", chunk_bytes);
  auto set = ledger_.open({file("a"), file("b")});
  for (const auto& x : *set) {
    x->check(0, {1, 2});
    EXPECT_FALSE(x->save(true));
  }
  touch("a"), write("b", 2 * chunk_bytes), touch("b");
  set = ledger_.open({file("a"), file("b")});
  ASSERT_TRUE(set);
  for (const auto& x : *set)
    EXPECT_FALSE(x->check(0, {7, 8}));
}

TEST_F(ledger_test, one_foreign_shard_among_the_right_ones_is_found_out) {
  for (const auto* name : {"a", "b", "c"})
    write(name, chunk_bytes);
  const auto open = [&] { return ledger_.open({file("a"), file("b"), file("c")}); };
  auto set = open();
  for (const auto& x : *set) {
    x->check(0, {1, 2});
    EXPECT_FALSE(x->save(true));
  }
  touch("b");
  set = open();
  ASSERT_TRUE(set);
  const auto why = set->at(1)->check(0, {3, 4});
  ASSERT_TRUE(why == errc::corrupted);
  EXPECT_NE(describe(why).find("/b: at byte 0 "), std::string::npos) << describe(why);
  // The same content under another date is the right shard, and its new date is remembered.
  set = open();
  EXPECT_FALSE(set->at(1)->check(0, {1, 2}));
  EXPECT_FALSE(set->at(1)->save(true));
  touch("a"), touch("c");
  set = open();
  EXPECT_TRUE(set->at(0)->check(0, {9, 9}) == errc::corrupted);
  write("b", chunk_bytes + 1);
  touch("b");
  write("a", chunk_bytes);
  const auto foreign = ledger_.open({file("b"), file("c")});
  EXPECT_TRUE(foreign) << "none of the two is what was recorded";
}

TEST_F(ledger_test, a_shard_of_another_length_is_refused_before_it_is_read) {
  write("a", chunk_bytes), write("b", chunk_bytes);
  auto set = ledger_.open({file("a"), file("b")});
  for (const auto& x : *set) {
    x->check(0, {1, 2});
    EXPECT_FALSE(x->save(true));
  }
  write("b", chunk_bytes - 1);
  const auto refused = ledger_.open({file("a"), file("b")});
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error() == errc::corrupted);
  EXPECT_NE(describe(refused.error()).find("/b: has 4095 bytes"), std::string::npos);
}

TEST_F(ledger_test, a_damaged_sidecar_counts_as_none) {
  write("w", 8 * chunk_bytes);
  const auto first = sums("w");
  for (uint64_t i = 0; i < 8; ++i)
    first->check(i * chunk_bytes, {i, i + 1});
  EXPECT_FALSE(first->save(true));
  const auto sidecar = ledger_.sidecar_of(root_.path() / "w");
  const auto sound = [&] {
    std::ifstream in{sidecar, std::ios::binary};
    return std::string{std::istreambuf_iterator<char>{in}, {}};
  }();
  ASSERT_GT(sound.size(), 8 * 16u);
  std::mt19937_64 random{3};
  for (int round = 0; round < 500; ++round) {
    auto bad = sound;
    if (round % 3 == 0)
      bad.resize(random() % sound.size());
    else
      bad[random() % bad.size()] ^= static_cast<char>(1 << random() % 8);
    test::write_file(sidecar, bad);
    const auto found = sums("w");
    for (uint64_t i = 0; i < 8; ++i)
      ASSERT_FALSE(found->expected(i * chunk_bytes));
  }
  test::write_file(sidecar, sound);
  EXPECT_TRUE(sums("w")->expected(0));
}

TEST_F(ledger_test, a_sidecar_that_is_whole_but_nonsense_crashes_nothing) {
  write("w", 8 * chunk_bytes);
  const auto first = sums("w");
  first->check(0, {1, 2});
  EXPECT_FALSE(first->save(true));
  const auto sidecar = ledger_.sidecar_of(root_.path() / "w");
  std::ifstream in{sidecar, std::ios::binary};
  const std::string sound{std::istreambuf_iterator<char>{in}, {}};
  std::mt19937_64 random{4};
  for (int round = 0; round < 1000; ++round) {
    auto bad = sound.substr(0, sound.size() - sizeof(checksum));
    for (int i = 0; i < 3; ++i)
      bad[random() % bad.size()] = static_cast<char>(random());
    const auto sum = checksum_of(std::as_bytes(std::span{bad}));
    bad.append(reinterpret_cast<const char*>(&sum), sizeof sum);
    test::write_file(sidecar, bad);
    const auto found = ledger_.open({file("w")});
    for (uint64_t i = 0; found && i < 8; ++i)
      found->front()->check(i * chunk_bytes, {i, i});
  }
}

TEST_F(ledger_test, names_that_lead_to_one_file_share_a_record) {
  write("blob", chunk_bytes);
  fs::create_symlink("blob", root_.path() / "link");
  const auto first = sums("blob");
  first->check(0, {1, 2});
  EXPECT_FALSE(first->save(true));
  EXPECT_TRUE(sums("link")->expected(0));
}

TEST(checksum_test, is_what_xxh128sum_prints) {
  // `printf '' | xxh128sum` and `printf 'troupe' | xxh128sum`.
  EXPECT_EQ(to_string(checksum_of({})), "99aa06d3014798d86001c324468d497f");
}

} // namespace
} // namespace troupe::storage
