// Keys that are kept: what is stored, what others see of it, and files that are not what they
// should be.
#include "storage/state/key_store.hpp"

#include <algorithm>
#include <atomic>
#include <fstream>
#include <iterator>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "storage/errors.hpp"
#include "storage/state/sqlite.hpp"

namespace troupe::storage {
namespace {

using std::chrono::hours;
using std::chrono::seconds;
using std::chrono::sys_seconds;

constexpr sys_seconds today{seconds{1'800'000'000}};

class key_store_test : public testing::Test {
protected:
  void SetUp() override {
    auto name = (std::filesystem::temp_directory_path() / "troupe-keys-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    dir = name;
  }
  void TearDown() override { std::filesystem::remove_all(dir); }
  std::unique_ptr<key_store> open() {
    auto opened = open_key_store(dir);
    EXPECT_TRUE(opened) << describe(opened.error());
    return opened ? std::move(*opened) : nullptr;
  }
  std::filesystem::path dir;
};

stored_key key(const std::string& id, sys_seconds created = today) {
  stored_key out;
  out.id = id;
  out.tenant = "acme";
  out.name = "ci, \"nightly\"";
  out.hash = sha256(id);
  out.created = created;
  return out;
}

TEST_F(key_store_test, keys_come_back_as_they_were_by_their_creation) {
  auto first = key("b"), second = key("a", today + seconds{1});
  second.tenant.clear();
  second.models = {"qwen*", "phi 3"};
  second.expires = today + hours{24};
  {
    const auto store = open();
    ASSERT_FALSE(store->add(second));
    ASSERT_FALSE(store->add(first));
  }
  const auto all = open()->all();
  ASSERT_TRUE(all);
  EXPECT_THAT(*all, testing::ElementsAre(first, second));
}

TEST_F(key_store_test, a_revoked_key_stays_revoked_since_the_first_time) {
  const auto store = open();
  ASSERT_FALSE(store->add(key("a")));
  EXPECT_EQ(store->revoke("a", today + seconds{5})->revoked, today + seconds{5});
  EXPECT_EQ(store->revoke("a", today + seconds{9})->revoked, today + seconds{5});
  EXPECT_EQ(store->all()->at(0).revoked, today + seconds{5});
  const auto absent = store->revoke("b", today);
  ASSERT_FALSE(absent);
  EXPECT_EQ(absent.error(), errc::not_found);
}

TEST_F(key_store_test, one_key_is_not_stored_twice) {
  const auto store = open();
  ASSERT_FALSE(store->add(key("a")));
  EXPECT_EQ(store->add(key("a")), errc::inconsistent);
  auto same = key("b");
  same.hash = sha256("a");
  EXPECT_EQ(store->add(same), errc::inconsistent);
  EXPECT_EQ(store->all()->size(), 1u);
}

TEST_F(key_store_test, the_version_tells_what_others_did_and_nothing_else) {
  const auto mine = open(), other = open();
  const auto before = mine->version();
  ASSERT_TRUE(before);
  EXPECT_EQ(*mine->version(), *before);
  ASSERT_FALSE(other->add(key("a")));
  const auto after = mine->version();
  EXPECT_NE(*after, *before);
  EXPECT_EQ(mine->all()->size(), 1u) << "at once";
  ASSERT_TRUE(other->revoke("a", today));
  EXPECT_NE(*mine->version(), *after);
  EXPECT_TRUE(mine->all()->at(0).revoked);
}

TEST_F(key_store_test, many_users_at_once_lose_nothing) {
  constexpr int users = 4, each = 25;
  std::vector<std::thread> threads;
  std::atomic<int> failures = 0;
  for (int user = 0; user < users; ++user)
    threads.emplace_back([&, user] {
      auto store = open_key_store(dir); // also the file's making is a race
      for (int i = 0; i < each; ++i) {
        const auto id = std::to_string(user) + "-" + std::to_string(i);
        failures += !store || (*store)->add(key(id)) || !(*store)->revoke(id, today);
      }
    });
  for (auto& one : threads)
    one.join();
  EXPECT_EQ(failures, 0);
  const auto all = open()->all();
  EXPECT_EQ(all->size(), size_t{users * each});
  EXPECT_TRUE(std::ranges::all_of(*all, [](const auto& x) { return x.revoked.has_value(); }));
}

TEST_F(key_store_test, what_has_long_been_of_no_use_is_forgotten) {
  const auto store = open();
  auto expired = key("expired"), recent = key("recent");
  expired.expires = today;
  recent.expires = today + hours{24};
  ASSERT_FALSE(store->add(expired));
  ASSERT_FALSE(store->add(recent));
  ASSERT_FALSE(store->add(key("revoked")));
  ASSERT_TRUE(store->revoke("revoked", today));
  ASSERT_FALSE(store->add(key("for ever")));
  ASSERT_FALSE(store->add(key("new", today + key_store::memory + seconds{1})));
  std::vector<std::string> left;
  std::ranges::transform(*store->all(), std::back_inserter(left), &stored_key::id);
  EXPECT_THAT(left, testing::ElementsAre("recent", "for ever", "new"));
}

TEST_F(key_store_test, only_its_owner_may_read_it) {
  const auto store = open();
  ASSERT_FALSE(store->add(key("a")));
  const auto mode = std::filesystem::status(dir / "keys.db").permissions();
  EXPECT_EQ(mode, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

TEST_F(key_store_test, files_that_are_something_else_are_refused_with_their_name) {
  std::ofstream{dir / "keys.db"} << std::string(5000, 'x');
  const auto store = open_key_store(dir);
  ASSERT_FALSE(store);
  EXPECT_EQ(store.error(), errc::corrupted);
  EXPECT_NE(describe(store.error()).find("keys.db"), std::string::npos);
}

TEST_F(key_store_test, a_row_without_a_hash_is_no_key) {
  const auto store = open();
  auto file = database::open(dir / "keys.db");
  ASSERT_TRUE(file);
  ASSERT_FALSE(file->run("INSERT INTO keys VALUES ('k', 'acme', '', 'xyz', '', 1, 0, 0)"));
  const auto all = store->all();
  ASSERT_FALSE(all);
  EXPECT_EQ(all.error(), errc::corrupted);
  EXPECT_NE(describe(all.error()).find("key k"), std::string::npos);
}

} // namespace
} // namespace troupe::storage
