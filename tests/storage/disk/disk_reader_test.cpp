#include "storage/disk/disk_reader.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <random>

#include <gtest/gtest.h>

#include "storage/disk/read_pieces.hpp"
#include "storage/errors.hpp"
#include "tests/storage/model_files.hpp"

namespace troupe::storage {
namespace {

std::string random_bytes(size_t count) {
  std::mt19937_64 random{count};
  std::string out(count, '\0');
  for (auto& byte : out)
    byte = static_cast<char>(random());
  return out;
}

/// Out of the page cache, so that reads take the direct path.
void write_cold_file(const std::filesystem::path& path, const std::string& content) {
  test::write_file(path, content);
  const int fd = ::open(path.c_str(), O_RDONLY);
  ASSERT_EQ(::fsync(fd), 0);
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  ::close(fd);
}

struct free_bytes {
  void operator()(std::byte* x) const { std::free(x); }
};
using buffer = std::unique_ptr<std::byte, free_bytes>;

buffer aligned_buffer(size_t bytes) {
  return buffer{static_cast<std::byte*>(std::aligned_alloc(4096, (bytes + 8191) / 4096 * 4096))};
}

/// Counts reads that ended, and keeps their errors.
class outcome {
public:
  explicit outcome(size_t expected = 1) : left_{expected} {}
  read_done callback() {
    return [this](caf::error why) {
      const std::lock_guard guard{mutex_};
      if (why)
        failures_.push_back(std::move(why));
      --left_;
      ended_.notify_all();
    };
  }
  std::vector<caf::error> wait() {
    std::unique_lock guard{mutex_};
    ended_.wait(guard, [this] { return left_ == 0; });
    return failures_;
  }

private:
  std::mutex mutex_;
  std::condition_variable ended_;
  size_t left_;
  std::vector<caf::error> failures_;
};

class disk_reader_test : public testing::TestWithParam<disk_backend> {
protected:
  void SetUp() override {
    auto reader = make_disk_reader({.backend = GetParam(), .piece_bytes = 8192, .depth = 8});
    if (!reader && GetParam() == disk_backend::io_uring)
      GTEST_SKIP() << describe(reader.error());
    ASSERT_TRUE(reader);
    ASSERT_EQ((*reader)->backend(), GetParam());
    reader_ = std::move(*reader);
  }
  caf::error read(const std::shared_ptr<const disk_file>& file, uint64_t offset,
                  std::span<std::byte> into) {
    outcome out;
    reader_->read(file, offset, into, out.callback());
    const auto failures = out.wait();
    return failures.empty() ? caf::error{} : failures.front();
  }

  test::temporary_directory root_;
  std::unique_ptr<disk_reader> reader_;
};

TEST_P(disk_reader_test, every_offset_length_and_address_around_alignment_gives_the_files_bytes) {
  const auto content = random_bytes(5 * 8192 + 777);
  const auto path = root_.path() / "w";
  const auto into = aligned_buffer(content.size() + 4096);
  const size_t edges[] = {0, 1, 511, 512, 4095, 4096, 4097, 8191, 8192, 8193, 20000};
  for (const bool direct : {true, false}) {
    write_cold_file(path, content);
    const auto file = disk_file::open(path, direct);
    ASSERT_TRUE(file);
    if (!direct) {
      EXPECT_EQ((*file)->alignment(), 0u);
    }
    for (const auto offset : edges)
      for (const auto length : edges)
        for (const size_t shift : {size_t{0}, size_t{1}, offset % 4096}) {
          std::fill_n(into.get(), content.size() + 4096, std::byte{0xa5});
          auto* at = into.get() + shift;
          ASSERT_FALSE(read(*file, offset, {at, length}));
          ASSERT_EQ(std::memcmp(at, content.data() + offset, length), 0)
              << offset << ' ' << length << ' ' << shift;
          ASSERT_EQ(at[length], std::byte{0xa5}) << "wrote behind the buffer";
        }
  }
}

TEST_P(disk_reader_test, files_of_every_tail_length_are_read_to_their_last_byte) {
  const auto whole = random_bytes(3 * 4096);
  const auto into = aligned_buffer(whole.size());
  for (const size_t size : {1, 2, 511, 512, 513, 4095, 4096, 4097, 8191, 8193, 12287, 12288}) {
    const auto path = root_.path() / std::to_string(size);
    write_cold_file(path, whole.substr(0, size));
    const auto file = disk_file::open(path);
    ASSERT_TRUE(file);
    ASSERT_EQ((*file)->size_bytes(), size);
    ASSERT_FALSE(read(*file, 0, {into.get(), size}));
    EXPECT_EQ(std::memcmp(into.get(), whole.data(), size), 0) << size;
  }
}

TEST_P(disk_reader_test, many_reads_at_once_from_cold_and_cached_ranges_all_arrive) {
  const auto content = random_bytes(1 << 20);
  const auto path = root_.path() / "w";
  write_cold_file(path, content);
  const auto file = disk_file::open(path);
  ASSERT_TRUE(file);
  const auto into = aligned_buffer(content.size());
  // Half of it is in the page cache.
  ASSERT_EQ(::pread((*file)->buffered_fd(), into.get(), content.size() / 2, 0),
            static_cast<ssize_t>(content.size() / 2));
  std::memset(into.get(), 0, content.size());
  constexpr size_t part = 16384;
  outcome out{content.size() / part};
  for (size_t at = 0; at < content.size(); at += part)
    reader_->read(*file, at, {into.get() + at, part}, out.callback());
  EXPECT_TRUE(out.wait().empty());
  EXPECT_EQ(std::memcmp(into.get(), content.data(), content.size()), 0);
}

TEST_P(disk_reader_test, a_file_that_was_truncated_gives_one_error_with_name_and_offset) {
  const auto path = root_.path() / "shard";
  for (const size_t left : {0, 1, 4096, 10000, 16383}) {
    write_cold_file(path, random_bytes(16384));
    const auto file = disk_file::open(path);
    ASSERT_TRUE(file);
    ASSERT_EQ(::truncate(path.c_str(), static_cast<off_t>(left)), 0);
    const auto into = aligned_buffer(16384);
    const auto why = read(*file, 0, {into.get(), 16384});
    ASSERT_TRUE(why == errc::short_read) << describe(why);
    EXPECT_NE(describe(why).find("shard"), std::string::npos);
    EXPECT_NE(describe(why).find("at byte " + std::to_string(left)), std::string::npos)
        << describe(why);
    EXPECT_TRUE((*file)->check_unchanged() == errc::changed);
  }
}

TEST_P(disk_reader_test, a_reader_that_goes_away_ends_every_read) {
  const auto path = root_.path() / "w";
  write_cold_file(path, random_bytes(1 << 20));
  const auto file = disk_file::open(path);
  ASSERT_TRUE(file);
  const auto into = aligned_buffer(1 << 20);
  outcome out{64};
  for (size_t i = 0; i < 64; ++i)
    reader_->read(*file, i * 16384, {into.get() + i * 16384, 16384}, out.callback());
  reader_.reset();
  for (const auto& why : out.wait())
    EXPECT_TRUE(why == errc::cancelled) << describe(why);
}

TEST_P(disk_reader_test, a_read_may_be_started_by_the_end_of_another) {
  const auto content = random_bytes(1 << 16);
  const auto path = root_.path() / "w";
  write_cold_file(path, content);
  const auto file = disk_file::open(path);
  ASSERT_TRUE(file);
  const auto into = aligned_buffer(content.size());
  outcome out{8};
  std::function<void(size_t)> next = [&](size_t at) {
    reader_->read(*file, at, {into.get() + at, 8192}, [&, at](caf::error why) {
      if (at + 8192 < content.size())
        next(at + 8192);
      out.callback()(std::move(why));
    });
  };
  next(0);
  EXPECT_TRUE(out.wait().empty());
  EXPECT_EQ(std::memcmp(into.get(), content.data(), content.size()), 0);
}

INSTANTIATE_TEST_SUITE_P(backends, disk_reader_test,
                         testing::Values(disk_backend::io_uring, disk_backend::threads),
                         [](const auto& info) {
                           return info.param == disk_backend::io_uring ? "io_uring" : "threads";
                         });

TEST(disk_file_test, what_cannot_be_read_gives_a_clear_error) {
  const test::temporary_directory root;
  EXPECT_TRUE(disk_file::open(root.path() / "absent").error() == errc::not_found);
  EXPECT_TRUE(disk_file::open(root.path()).error() == errc::unreadable);
  ASSERT_EQ(::mkfifo((root.path() / "fifo").c_str(), 0600), 0);
  EXPECT_TRUE(disk_file::open(root.path() / "fifo").error() == errc::unreadable);
}

TEST(disk_file_test, identity_is_that_of_the_file_not_of_its_name) {
  const test::temporary_directory root;
  test::write_file(root.path() / "a", "12345678");
  std::filesystem::create_symlink("a", root.path() / "link");
  test::write_file(root.path() / "b", "12345678");
  const auto a = disk_file::open(root.path() / "a"), link = disk_file::open(root.path() / "link"),
             b = disk_file::open(root.path() / "b");
  ASSERT_TRUE(a && link && b);
  EXPECT_EQ((*a)->identity(), (*link)->identity());
  EXPECT_NE((*a)->identity(), (*b)->identity());
}

/// A device that fails cannot be had in a test; what its answers lead to can.
TEST(read_pieces_test, a_device_error_ends_the_read_once_with_name_and_offset) {
  const test::temporary_directory root;
  write_cold_file(root.path() / "w", random_bytes(32768));
  const auto file = disk_file::open(root.path() / "w", false);
  ASSERT_TRUE(file);
  const auto into = aligned_buffer(32768);
  std::vector<caf::error> ends;
  auto pieces = cut_read(
      *file, 0, {into.get(), 32768}, [&](caf::error why) { ends.push_back(std::move(why)); }, 8192);
  ASSERT_EQ(pieces.size(), 4u);
  EXPECT_FALSE(settle(pieces[2], -EIO));
  EXPECT_FALSE(settle(pieces[0], 8192));
  EXPECT_FALSE(settle(pieces[3], 0));
  EXPECT_TRUE(ends.empty()) << "ended while a piece may still write into the buffer";
  auto again = settle(pieces[1], -EINTR);
  ASSERT_TRUE(again);
  auto rest = settle(*again, 100);
  ASSERT_TRUE(rest);
  EXPECT_EQ(rest->offset, 8192u + 100);
  EXPECT_EQ(rest->length, 8192u - 100);
  EXPECT_FALSE(settle(*rest, 8092));
  ASSERT_EQ(ends.size(), 1u);
  EXPECT_TRUE(ends[0] == errc::unreadable);
  EXPECT_NE(describe(ends[0]).find("at byte 16384"), std::string::npos) << describe(ends[0]);
}

TEST(read_pieces_test, a_direct_read_that_is_turned_down_is_done_through_the_page_cache) {
  const test::temporary_directory root;
  write_cold_file(root.path() / "w", random_bytes(32768));
  const auto file = disk_file::open(root.path() / "w");
  ASSERT_TRUE(file);
  if ((*file)->alignment() == 0)
    GTEST_SKIP() << "no direct reads here";
  const auto into = aligned_buffer(32768);
  auto pieces = cut_read(
      *file, 0, {into.get(), 32768}, [](caf::error) {}, 32768);
  ASSERT_TRUE(pieces.at(0).direct);
  const auto again = settle(pieces[0], -EINVAL);
  ASSERT_TRUE(again);
  EXPECT_FALSE(again->direct);
  EXPECT_EQ((*file)->alignment(), 0u);
  EXPECT_EQ(again->length, 32768u);
}

} // namespace
} // namespace troupe::storage
