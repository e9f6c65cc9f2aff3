#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <fstream>

#include "storage/disk/disk_reader.hpp"
#include "storage/integrity/ledger.hpp"
#include "tests/storage/pipeline/pipeline_fixture.hpp"

/// Three shards, a pool that outlives its process, and records of checksums, as one node has them.
/// One thing of them is damaged at a time, at random, and the node started anew: either the load is
/// refused, or every byte of it is right.
///
///   DAMAGES=10000 build/release/bin/pipeline_test --gtest_filter='damage_soak*'
namespace troupe::storage {
namespace {

namespace fs = std::filesystem;

using test::load_record;
using test::open_pool;
using test::small_chunk;
using test::text_of;

constexpr uint32_t shards = 3;
constexpr uint64_t shard_bytes = 4 * small_chunk + 77;
/// Fewer than the chunks of all shards, so that every load evicts and fills.
constexpr uint32_t pool_chunks = 12;

struct saved_file {
  std::string content;
  struct timespec modified {};
};

std::string read_all(const fs::path& path) {
  std::ifstream in{path, std::ios::binary};
  return {std::istreambuf_iterator<char>{in}, {}};
}

saved_file save(const fs::path& path) {
  struct stat info {};
  EXPECT_EQ(::stat(path.c_str(), &info), 0);
  return {read_all(path), info.st_mtim};
}

/// Writes a file in place and gives it that date, so that it is the same file to whoever asks, as
/// after damage by a disk.
void put(const fs::path& path, const std::string& content, const struct timespec& modified) {
  const int fd = ::open(path.c_str(), O_WRONLY);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(::ftruncate(fd, static_cast<off_t>(content.size())), 0);
  ASSERT_EQ(::pwrite(fd, content.data(), content.size(), 0), static_cast<ssize_t>(content.size()));
  const struct timespec times[] = {modified, modified};
  ::futimens(fd, times);
  ::close(fd);
}

void exchange(const fs::path& a, const fs::path& b) {
  ASSERT_EQ(::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE), 0);
}

class damage_soak_test : public testing::Test {
protected:
  damage_soak_test() {
    auto reader = make_disk_reader();
    EXPECT_TRUE(reader);
    reader_ = std::move(*reader);
    for (uint32_t i = 0; i < shards; ++i) {
      contents_.push_back(text_of(shard_bytes, 100 + i));
      test::write_file(shard(i), text_of(shard_bytes, i)); // an earlier state of the model
    }
    EXPECT_FALSE(load(pool()));
    old_sums_ = sidecars();
    for (uint32_t i = 0; i < shards; ++i) {
      test::write_file(shard(i), contents_[i]);
      fs::last_write_time(shard(i), fs::last_write_time(shard(i)) + std::chrono::seconds{2});
    }
    EXPECT_FALSE(load(pool()));
    for (uint32_t i = 0; i < shards; ++i)
      shards_.push_back(save(shard(i)));
    sums_ = sidecars();
    index_bytes_ = pool()->region_offset(0);
    old_index_ = read_all(pool_path()).substr(0, index_bytes_);
  }

  fs::path shard(uint32_t i) const { return root_.path() / ("shard" + std::to_string(i)); }
  fs::path pool_path() const { return root_.path() / "pool"; }
  std::shared_ptr<chunk_pool> pool() const { return open_pool(pool_path(), pool_chunks); }

  std::vector<saved_file> sidecars() const {
    std::vector<saved_file> out;
    for (uint32_t i = 0; i < shards; ++i)
      out.push_back(save(ledger_.sidecar_of(shard(i))));
    return out;
  }
  void put_sidecars(const std::vector<saved_file>& all) const {
    for (uint32_t i = 0; i < shards; ++i)
      test::write_file(ledger_.sidecar_of(shard(i)), all[i].content);
  }

  /// A node starts, loads all shards through `pool`, and ends.
  caf::error load(const std::shared_ptr<chunk_pool>& pool) {
    std::vector<std::shared_ptr<const disk_file>> files;
    for (uint32_t i = 0; i < shards; ++i) {
      auto file = disk_file::open(shard(i));
      if (!file)
        return file.error();
      files.push_back(*file);
    }
    auto sums = ledger_.open(files);
    if (!sums)
      return sums.error();
    load_plan plan;
    for (uint32_t i = 0; i < shards; ++i) {
      plan.files.push_back({make_disk_origin(*reader_, files[i]), sums->at(i)});
      plan.ranges.push_back({i, 0, files[i]->size_bytes()});
    }
    load_pipeline pipeline{pool};
    load_record record;
    pipeline.start(plan, load_priority::demand, record.events());
    const auto why = record.wait();
    for (uint32_t i = 0; i < shards && !why; ++i)
      served_right_ = served_right_ && (sums_.empty() || record.file(i) == contents_[i]);
    return why;
  }

  uint64_t below(uint64_t end) { return random_() % end; }
  void flip(std::string& bytes, uint64_t from, uint64_t to) {
    bytes[from + below(to - from)] ^= static_cast<char>(1 << below(8));
  }

  // Damages, by what a load has to make of them. The first ones are refused:
  void damage_shard(uint32_t which) {
    auto bytes = contents_[which];
    switch (below(4)) {
    case 0:
      flip(bytes, 0, bytes.size());
      break;
    case 1: { // a sector that was never written
      const auto at = below(bytes.size() / 512) * 512;
      bytes.replace(at, 512, 512, '\0');
      break;
    }
    case 2: { // a chunk of another place
      const auto from = below(4), to = (from + 1 + below(3)) % 4;
      bytes.replace(to * small_chunk, small_chunk, contents_[which], from * small_chunk,
                    small_chunk);
      break;
    }
    default: // of another shard
      bytes.replace(0, small_chunk, contents_[(which + 1) % shards], 0, small_chunk);
    }
    put(shard(which), bytes, shards_[which].modified);
  }
  void cut_shard(uint32_t which) {
    auto bytes = contents_[which];
    bytes.resize(below(8) == 0 ? bytes.size() + 1 + below(5000) : below(bytes.size()));
    put(shard(which), bytes, shards_[which].modified);
  }
  // The next ones are got over:
  void damage_pool(uint64_t from, uint64_t to, uint64_t flips) {
    auto bytes = read_all(pool_path());
    for (; flips > 0; --flips)
      flip(bytes, from, std::min<uint64_t>(to, bytes.size()));
    std::ofstream{pool_path(), std::ios::binary | std::ios::in}.write(
        bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  /// Records of the index in each other's place.
  void mix_index() {
    auto bytes = read_all(pool_path()).substr(0, index_bytes_);
    const bool slots = below(2) == 0;
    const auto size = slots ? sizeof(pool_layout::slot_record) : sizeof(pool_layout::entry_record);
    const auto begin =
        pool_layout::header_bytes + (slots ? 0 : pool_chunks * sizeof(pool_layout::slot_record));
    const auto count = slots ? pool_chunks : 2 * pool_chunks;
    const auto a = begin + below(count) * size, b = begin + below(count) * size;
    const auto kept = bytes.substr(a, size);
    bytes.replace(a, size, bytes.substr(b, size));
    bytes.replace(b, size, kept);
    put_index(bytes);
  }
  void put_index(const std::string& bytes) const {
    std::ofstream{pool_path(), std::ios::binary | std::ios::in}.write(
        bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  void damage_sidecar(uint32_t which) {
    auto bytes = sums_[which].content;
    if (below(3) == 0)
      bytes.resize(below(bytes.size()));
    else
      flip(bytes, 0, bytes.size());
    test::write_file(ledger_.sidecar_of(shard(which)), bytes);
  }

  void repair() {
    for (uint32_t i = 0; i < shards; ++i)
      put(shard(i), shards_[i].content, shards_[i].modified);
    put_sidecars(sums_);
  }

  test::temporary_directory root_;
  ledger ledger_{root_.path() / "sums", small_chunk};
  std::shared_ptr<disk_reader> reader_;
  std::vector<std::string> contents_;
  std::vector<saved_file> shards_, sums_, old_sums_;
  uint64_t index_bytes_ = 0;
  std::string old_index_;
  bool served_right_ = true;
  std::mt19937_64 random_{23};
};

TEST_F(damage_soak_test, whatever_is_damaged_no_wrong_byte_is_served) {
  const auto* wanted = std::getenv("DAMAGES");
  const auto rounds = wanted != nullptr ? std::strtoul(wanted, nullptr, 10) : 180;
  constexpr size_t kinds = 9;
  std::array<size_t, kinds> refused{}, tried{};
  for (size_t round = 0; round < rounds; ++round) {
    const auto kind = round % kinds;
    const auto which = static_cast<uint32_t>(below(shards));
    const auto other = (which + 1 + static_cast<uint32_t>(below(shards - 1))) % shards;
    // What is on the disk can only be told from a pool that does not hold it.
    const bool of_disk = kind < 3;
    switch (kind) {
    case 0:
      damage_shard(which);
      break;
    case 1:
      cut_shard(which);
      break;
    case 2:
      exchange(shard(which), shard(other));
      break;
    case 3:
      damage_pool(index_bytes_, UINT64_MAX, 3);
      break;
    case 4:
      damage_pool(0, index_bytes_, 1 + below(200));
      break;
    case 5:
      mix_index();
      break;
    case 6:
      put_index(std::exchange(old_index_, read_all(pool_path()).substr(0, index_bytes_)));
      break;
    case 7:
      damage_sidecar(which);
      break;
    default:
      if (below(2) == 0)
        exchange(ledger_.sidecar_of(shard(which)), ledger_.sidecar_of(shard(other)));
      else
        put_sidecars(old_sums_);
    }
    const auto why = load(of_disk ? open_pool({}, pool_chunks) : pool());
    ++tried[kind];
    refused[kind] += why ? 1 : 0;
    ASSERT_TRUE(served_right_) << "round " << round << " of kind " << kind;
    ASSERT_TRUE(!why || why == errc::corrupted) << kind << ' ' << describe(why);
    ASSERT_TRUE(!why || describe(why).find(root_.path()) != std::string::npos) << describe(why);
    // A record of another file, or another time, can look like a shard that was mixed up.
    ASSERT_TRUE(kind == 8 || static_cast<bool>(why) == of_disk)
        << "round " << round << " of kind " << kind << ": " << describe(why);
    if (kind == 2)
      exchange(shard(which), shard(other));
    repair();
    if (of_disk || round % 64 == 0) {
      ASSERT_FALSE(load(pool())) << "the repaired model";
    }
  }
  for (size_t kind = 0; kind < kinds; ++kind)
    RecordProperty("kind_" + std::to_string(kind),
                   std::to_string(refused[kind]) + " refused of " + std::to_string(tried[kind]));
}

} // namespace
} // namespace troupe::storage
