#include <csignal>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/storage/pool/pool_fixture.hpp"

namespace troupe::storage {
namespace {

using test::at_second;
using test::holds;
using test::key_of;
using test::open_pool;
using test::put;

constexpr uint32_t chunks = 12;
constexpr uint64_t files = 3, chunks_of_file = 8;

/// Fills and evicts for ever, one byte into `report` after each step.
[[noreturn]] void churn(const std::filesystem::path& path, int report, uint64_t seed) {
  const auto pool = open_pool(path, chunks);
  std::mt19937_64 random{seed};
  for (int64_t i = 0;; ++i) {
    const auto key = key_of(random() % files, random() % chunks_of_file);
    if (const auto found = pool->find(key, at_second(i))) {
      if (random() % 8 == 0)
        pool->discard(*found);
    } else {
      put(*pool, key, at_second(i));
    }
    if (::write(report, "", 1) != 1)
      ::_exit(1);
  }
}

TEST(pool_crash_test, whatever_moment_a_process_is_killed_its_successor_finds_only_whole_chunks) {
  const test::temporary_directory root;
  const auto path = root.path() / "pool";
  std::mt19937_64 random{11};
  size_t found = 0;
  for (uint64_t round = 0; round < 200; ++round) {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const auto child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0)
      churn(path, ends[1], round);
    ::close(ends[1]);
    // The child is somewhere in its next steps when the signal comes.
    for (auto steps = random() % 60; steps > 0; --steps) {
      char step = 0;
      ASSERT_EQ(::read(ends[0], &step, 1), 1);
    }
    ::kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child ended by itself";
    ::close(ends[0]);
    const auto pool = open_pool(path, chunks);
    uint64_t held = 0;
    for (uint64_t file = 0; file < files; ++file)
      for (uint64_t i = 0; i < chunks_of_file; ++i)
        if (const auto lease = pool->find(key_of(file, i), at_second(0))) {
          ASSERT_TRUE(holds(*lease, key_of(file, i))) << "round " << round;
          ++held;
        }
    found += held;
    // The one that was being published may be known by its content only.
    ASSERT_GE(pool->usage().reattached, held);
    ASSERT_LE(pool->usage().reattached, held + 1);
    // Nothing leaked: every chunk can be had.
    std::vector<chunk_lease> all;
    for (uint64_t i = 0; i < chunks; ++i)
      all.push_back(put(*pool, key_of(100 + round, i), at_second(1)));
    for (const auto& lease : all)
      ASSERT_TRUE(lease) << "round " << round;
    for (const auto& lease : all)
      pool->discard(lease);
  }
  EXPECT_GT(found, 200u);
}

} // namespace
} // namespace troupe::storage
