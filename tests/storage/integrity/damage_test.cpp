#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "storage/disk/disk_reader.hpp"
#include "storage/integrity/ledger.hpp"
#include "tests/storage/pipeline/pipeline_fixture.hpp"

/// Real files on a real disk that are damaged between two loads: no damage may pass.
namespace troupe::storage {
namespace {

using test::load_record;
using test::open_pool;
using test::small_chunk;
using test::text_of;

class damage_test : public testing::Test {
protected:
  damage_test() {
    auto reader = make_disk_reader();
    EXPECT_TRUE(reader);
    reader_ = std::move(*reader);
    for (const auto* name : {"a", "b"}) {
      contents_.push_back(text_of(4 * small_chunk + 77, *name == 'a' ? 1 : 2));
      test::write_file(path(name), contents_.back());
    }
  }

  std::filesystem::path path(const std::string& name) const { return root_.path() / name; }

  /// Loads both files through `pool` and returns how that ended.
  caf::error load(const std::shared_ptr<chunk_pool>& pool) {
    std::vector<std::shared_ptr<const disk_file>> files;
    for (const auto* name : {"a", "b"}) {
      auto file = disk_file::open(path(name));
      if (!file)
        return file.error();
      if ((*file)->size_bytes() != contents_[files.size()].size())
        sized_wrong_ = true;
      files.push_back(*file);
    }
    auto sums = ledger_.open(files);
    if (!sums)
      return sums.error();
    load_plan plan;
    for (uint32_t i = 0; i < 2; ++i) {
      plan.files.push_back({make_disk_origin(*reader_, files[i]), sums->at(i)});
      plan.ranges.push_back({i, 0, files[i]->size_bytes()});
    }
    load_pipeline pipeline{pool};
    load_record record;
    pipeline.start(plan, load_priority::demand, record.events());
    const auto why = record.wait();
    for (uint32_t i = 0; i < 2 && !why; ++i)
      EXPECT_EQ(record.file(i), contents_[i]) << "wrong bytes were served";
    return why;
  }

  /// Changes bytes of a file and keeps its date, as a failing disk does.
  void damage(const std::string& name, uint64_t offset, char flip) {
    const int fd = ::open(path(name).c_str(), O_RDWR);
    struct stat info {};
    ::fstat(fd, &info);
    char byte = 0;
    ASSERT_EQ(::pread(fd, &byte, 1, static_cast<off_t>(offset)), 1);
    byte = static_cast<char>(byte ^ flip);
    ASSERT_EQ(::pwrite(fd, &byte, 1, static_cast<off_t>(offset)), 1);
    const struct timespec times[] = {info.st_atim, info.st_mtim};
    ::futimens(fd, times);
    ::close(fd);
  }

  test::temporary_directory root_;
  std::vector<std::string> contents_;
  ledger ledger_{root_.path() / "sums", small_chunk};
  std::shared_ptr<disk_reader> reader_;
  bool sized_wrong_ = false;
};

TEST_F(damage_test, every_flipped_bit_is_found_and_the_file_stays_refused) {
  ASSERT_FALSE(load(open_pool({}, 16)));
  std::filesystem::copy(root_.path() / "sums", root_.path() / "kept");
  std::mt19937_64 random{5};
  for (int round = 0; round < 100; ++round) {
    const auto name = round % 2 ? "a" : "b";
    const auto offset = random() % contents_[0].size();
    const auto flip = static_cast<char>(1 << random() % 8);
    damage(name, offset, flip);
    const auto why = load(open_pool({}, 16));
    ASSERT_TRUE(why == errc::corrupted) << name << ' ' << offset << ' ' << describe(why);
    const auto text = describe(why);
    ASSERT_NE(text.find(path(name).string() + ": at byte " +
                        std::to_string(offset / small_chunk * small_chunk)),
              std::string::npos)
        << text;
    damage(name, offset, flip);
    ASSERT_TRUE(load(open_pool({}, 16)) == errc::corrupted) << "the quarantine was forgotten";
    std::filesystem::remove_all(root_.path() / "sums");
    std::filesystem::copy(root_.path() / "kept", root_.path() / "sums");
  }
  EXPECT_FALSE(load(open_pool({}, 16)));
}

/// One pool and one pipeline that stay while their files and their memory are damaged.
class lasting_damage_test : public damage_test {
protected:
  static constexpr uint64_t chunks = 5; ///< of a file, the last one short

  lasting_damage_test() { open(); }

  void open() {
    plan_ = {};
    for (uint32_t i = 0; i < 2; ++i) {
      const auto file = disk_file::open(path(i == 0 ? "a" : "b"));
      ASSERT_TRUE(file);
      const auto sums = ledger{{}, small_chunk}.open({*file})->front();
      for (uint64_t at = 0; at < contents_[i].size(); at += small_chunk)
        ASSERT_FALSE(sums->check(at, sum_of(i, at)));
      plan_.files.push_back({make_disk_origin(*reader_, *file), sums});
      plan_.ranges.push_back({i, 0, contents_[i].size()});
    }
  }
  std::string_view chunk(uint32_t file, uint64_t at) const {
    return std::string_view{contents_[file]}.substr(at, small_chunk);
  }
  checksum sum_of(uint32_t file, uint64_t at) const {
    return checksum_of(std::as_bytes(std::span{chunk(file, at)}));
  }
  void write(uint32_t file, uint64_t at, std::string_view bytes) {
    const int fd = ::open(path(file == 0 ? "a" : "b").c_str(), O_RDWR);
    ASSERT_EQ(::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(at)),
              static_cast<ssize_t>(bytes.size()));
    ::close(fd);
  }
  /// By content: a file that was written to has another key until it is loaded again.
  std::optional<chunk_lease> held(uint32_t file, uint64_t at) {
    return pool_->find_content(sum_of(file, at), chunk(file, at).size(),
                               {plan_.files[file].origin->key(), at},
                               std::chrono::steady_clock::now());
  }
  void evict(uint32_t file, uint64_t at) {
    if (const auto lease = held(file, at))
      pool_->discard(*lease);
  }
  /// Bytes that came whole and wrong fail the test.
  caf::error load() {
    load_record record;
    pipeline_.start(plan_, load_priority::demand, record.events());
    auto why = record.wait();
    for (uint32_t i = 0; i < 2 && !why; ++i)
      EXPECT_EQ(record.file(i), contents_[i]) << "wrong bytes were served";
    return why;
  }
  static bool names(const caf::error& why, const std::string& place) {
    return describe(why).find(place) != std::string::npos;
  }
  std::string place(uint32_t file, uint64_t at) const {
    return path(file == 0 ? "a" : "b").string() + ": at byte " + std::to_string(at) + " ";
  }

  std::shared_ptr<chunk_pool> pool_ = open_pool({}, 32);
  load_pipeline pipeline_{pool_};
  load_plan plan_;
};

TEST_F(lasting_damage_test, of_ten_thousand_damages_none_is_served) {
  ASSERT_FALSE(load());
  std::mt19937_64 random{17};
  for (int round = 0; round < 10'000; ++round) {
    const auto file = static_cast<uint32_t>(random() % 2);
    const auto at = random() % chunks * small_chunk;
    std::string bytes{chunk(file, at)};
    const auto byte = random() % bytes.size();
    const auto bit = static_cast<char>(1 << random() % 8);
    if (round % 4 == 0) {   // the pool's memory: the disk has the right bytes
      ASSERT_FALSE(load()); // what the round before evicted comes back
      auto lease = held(file, at);
      ASSERT_TRUE(lease);
      auto& rotten = pool_->region().data()[pool_->region_offset(lease->slot()) + byte];
      rotten ^= static_cast<std::byte>(bit);
      lease->release();
      ASSERT_FALSE(load());
      continue;
    }
    if (round % 4 == 1) { // a chunk of another place
      bytes = chunk(file, at == 0 ? small_chunk : 0).substr(0, bytes.size());
    } else if (round % 4 == 2) { // a few bytes that were never written
      bytes.replace(byte / 512 * 512, 512, std::min<size_t>(512, bytes.size() - byte / 512 * 512),
                    '\0');
    } else {
      bytes[byte] = static_cast<char>(bytes[byte] ^ bit);
    }
    write(file, at, bytes);
    open(); // the damage is as old as the file
    evict(file, at);
    const auto why = load();
    ASSERT_TRUE(why == errc::corrupted) << round << ' ' << describe(why);
    ASSERT_TRUE(names(why, place(file, at))) << describe(why);
    write(file, at, chunk(file, at));
    open();
  }
  EXPECT_FALSE(load());
}

TEST_F(damage_test, a_truncated_file_is_never_loaded_as_whole) {
  ASSERT_FALSE(load(open_pool({}, 16)));
  for (const uint64_t length : {0u, 1u, 8191u, 8192u, 4 * small_chunk + 76}) {
    std::filesystem::resize_file(path("a"), length);
    const auto why = load(open_pool({}, 16));
    EXPECT_TRUE(why == errc::corrupted) << length << ' ' << describe(why);
    EXPECT_NE(describe(why).find(path("a").string()), std::string::npos);
  }
}

TEST_F(damage_test, two_shards_that_changed_places_are_found_out) {
  test::write_file(path("c"), text_of(4 * small_chunk + 77, 3));
  ASSERT_FALSE(load(open_pool({}, 16)));
  std::filesystem::rename(path("c"), path("b"));
  const auto why = load(open_pool({}, 16));
  ASSERT_TRUE(why == errc::corrupted) << describe(why);
  EXPECT_NE(describe(why).find(path("b").string()), std::string::npos);
}

TEST_F(damage_test, a_chunk_that_rots_in_the_pool_is_read_from_the_disk_again) {
  const auto pool_path = root_.path() / "pool";
  std::mt19937_64 random{9};
  {
    const auto pool = open_pool(pool_path, 16);
    ASSERT_FALSE(load(pool));
  }
  const auto size = std::filesystem::file_size(pool_path);
  for (int round = 0; round < 100; ++round) {
    const int fd = ::open(pool_path.c_str(), O_RDWR);
    for (int i = 0; i < 3; ++i) {
      const auto at = static_cast<off_t>(size - 1 - random() % (16 * small_chunk));
      char byte = 0;
      ASSERT_EQ(::pread(fd, &byte, 1, at), 1);
      byte = static_cast<char>(byte ^ 0x10);
      ASSERT_EQ(::pwrite(fd, &byte, 1, at), 1);
    }
    ::close(fd);
    const auto pool = open_pool(pool_path, 16);
    ASSERT_FALSE(load(pool)); // `load` compares every byte
  }
}

TEST_F(damage_test, a_file_that_is_rewritten_while_it_loads_is_noticed) {
  const auto pool = open_pool({}, 16);
  auto file = disk_file::open(path("a"));
  ASSERT_TRUE(file);
  const auto sums = ledger_.open({*file});
  load_plan plan{{{make_disk_origin(*reader_, *file), sums->front()}},
                 {{0, 0, (*file)->size_bytes()}}};
  test::write_file(path("a"), text_of(4 * small_chunk + 77, 5));
  std::filesystem::last_write_time(path("a"), std::filesystem::last_write_time(path("a")) +
                                                  std::chrono::seconds{2});
  load_pipeline pipeline{pool};
  load_record record;
  pipeline.start(plan, load_priority::demand, record.events());
  EXPECT_TRUE(record.wait() == errc::changed);
}

} // namespace
} // namespace troupe::storage
