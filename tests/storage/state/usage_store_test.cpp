// The ledger's file: sums, several users, a killed writer, files that are not what they should be.
#include "storage/state/usage_store.hpp"

#include <csignal>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storage/errors.hpp"
#include "storage/state/sqlite.hpp"

namespace troupe::storage {
namespace {

using std::chrono::hours;

class usage_store_test : public testing::Test {
protected:
  void SetUp() override {
    auto name = (std::filesystem::temp_directory_path() / "troupe-usage-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    dir = name;
  }
  void TearDown() override { std::filesystem::remove_all(dir); }
  std::unique_ptr<usage_store> open() {
    auto opened = open_usage_store(dir);
    EXPECT_TRUE(opened) << describe(opened.error());
    return opened ? std::move(*opened) : nullptr;
  }
  std::filesystem::path dir;
};

usage_row row(std::string tenant, int hour, uint64_t tokens) {
  return {std::move(tenant), "m", hour_point{hours{hour}}, 1, tokens, tokens / 2, 2 * tokens};
}

TEST_F(usage_store_test, rows_of_an_hour_add_up_and_stay) {
  {
    const auto store = open();
    ASSERT_FALSE(store->add(std::vector{row("a", 5, 10), row("b", 5, 1), row("a", 6, 100)}));
    ASSERT_FALSE(store->add(std::vector{row("a", 5, 2)}));
  }
  const auto store = open();
  const auto all = store->since(hour_point{});
  ASSERT_TRUE(all);
  EXPECT_THAT(*all, testing::ElementsAre(usage_row{"a", "m", hour_point{hours{5}}, 2, 12, 6, 24},
                                         row("b", 5, 1), row("a", 6, 100)));
  EXPECT_THAT(*store->since(hour_point{hours{6}}), testing::ElementsAre(row("a", 6, 100)));
  EXPECT_THAT(*store->totals(hour_point{}),
              testing::ElementsAre(usage_row{"a", "m", hour_point{hours{5}}, 3, 112, 56, 224},
                                   row("b", 5, 1)));
}

TEST_F(usage_store_test, two_users_of_a_file_lose_nothing) {
  const auto one = open(), two = open();
  for (int i = 0; i < 50; ++i) {
    ASSERT_FALSE(one->add(std::vector{row("a", 1, 1)}));
    ASSERT_FALSE(two->add(std::vector{row("a", 1, 1)}));
  }
  EXPECT_EQ(one->totals(hour_point{})->at(0).prompt_tokens, 100u);
}

TEST_F(usage_store_test, only_its_owner_may_read_it) {
  open();
  const auto mode = std::filesystem::status(dir / "usage.db").permissions();
  EXPECT_EQ(mode, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

TEST_F(usage_store_test, a_writer_that_is_killed_leaves_what_it_had_committed) {
  int told[2];
  ASSERT_EQ(pipe(told), 0);
  const auto writer = fork();
  if (writer == 0) {
    const auto store = std::move(*open_usage_store(dir));
    for (char mark = 0; !store->add(std::vector{row("a", 1, 1), row("b", 1, 1)}); mark = 1)
      if (write(told[1], &mark, 1) != 1)
        break;
    _exit(1);
  }
  close(told[1]);
  uint64_t committed = 0;
  for (char mark = 0; committed < 25 && read(told[0], &mark, 1) == 1;)
    ++committed;
  ASSERT_EQ(committed, 25u);
  kill(writer, SIGKILL);
  int status = 0;
  waitpid(writer, &status, 0);
  ASSERT_TRUE(WIFSIGNALED(status));
  for (char mark = 0; read(told[0], &mark, 1) == 1;)
    ++committed;
  close(told[0]);
  const auto left = open()->totals(hour_point{});
  ASSERT_TRUE(left) << describe(left.error());
  ASSERT_EQ(left->size(), 2u);
  EXPECT_EQ(left->at(0).requests, left->at(1).requests) << "a batch is whole or not there";
  EXPECT_GE(left->at(0).requests, committed);
  EXPECT_LE(left->at(0).requests, committed + 1) << "its last commit may not have been told of";
}

TEST_F(usage_store_test, what_is_no_ledger_is_refused_with_its_name) {
  std::ofstream{dir / "usage.db"} << std::string(5000, 'x');
  const auto store = open_usage_store(dir);
  ASSERT_FALSE(store);
  EXPECT_EQ(store.error(), errc::corrupted);
  EXPECT_NE(describe(store.error()).find("usage.db"), std::string::npos);
}

TEST_F(usage_store_test, a_later_versions_file_is_left_alone) {
  {
    auto file = database::open(dir / "usage.db");
    ASSERT_TRUE(file);
    ASSERT_FALSE(file->run("PRAGMA user_version = 1000"));
  }
  const auto store = open_usage_store(dir);
  ASSERT_FALSE(store);
  EXPECT_EQ(store.error(), errc::unsupported);
}

TEST_F(usage_store_test, a_directory_that_cannot_be_made_is_said) {
  std::ofstream{dir / "file"} << "x";
  const auto store = open_usage_store(dir / "file" / "below");
  ASSERT_FALSE(store);
  EXPECT_NE(describe(store.error()).find("state_dir"), std::string::npos);
}

} // namespace
} // namespace troupe::storage
