#include "storage/pipeline/load_pipeline.hpp"

#include <fstream>
#include <thread>

#include <gmock/gmock.h>

#include "tests/storage/pipeline/pipeline_fixture.hpp"

namespace troupe::storage {
namespace {

using test::load_record;
using test::open_pool;
using test::scripted_origin;
using test::small_chunk;
using test::text_of;

/// Checksums that know nothing yet.
std::shared_ptr<file_sums> fresh_sums(uint64_t size) {
  const test::temporary_directory root;
  test::write_file(root.path() / "w", std::string(size, 'x'));
  const auto file = disk_file::open(root.path() / "w");
  return ledger{{}, small_chunk}.open({*file})->front();
}

planned_file planned(const std::shared_ptr<scripted_origin>& origin) {
  return {origin, fresh_sums(origin->size_bytes())};
}

/// One range for every chunk.
load_plan plan_of(const std::shared_ptr<scripted_origin>& origin) {
  load_plan out{{planned(origin)}, {}};
  for (uint64_t at = 0; at < origin->size_bytes(); at += small_chunk)
    out.ranges.push_back({0, at, std::min<uint64_t>(small_chunk, origin->size_bytes() - at)});
  return out;
}

TEST(load_pipeline_test, ranges_arrive_in_the_order_of_the_plan_with_the_files_bytes) {
  const auto a = std::make_shared<scripted_origin>(1, text_of(5 * small_chunk + 99, 1));
  const auto b = std::make_shared<scripted_origin>(2, text_of(100, 2));
  a->open(), b->open();
  const auto pool = open_pool({}, 16);
  load_pipeline pipeline{pool};
  load_record record;
  load_plan plan{{planned(a), planned(b)}, {}};
  plan.ranges = {{0, 5 * small_chunk, 99}, {1, 0, 100}, {1, 50, 0}, {0, 3, 2 * small_chunk}};
  const auto load = pipeline.start(plan, load_priority::demand, record.events());
  EXPECT_FALSE(record.wait());
  EXPECT_EQ(record.ranges(), 4u);
  // Only what the ranges touch is read.
  EXPECT_THAT(a->asked(),
              testing::UnorderedElementsAre(5 * small_chunk, 0u, small_chunk, 2 * small_chunk));
  EXPECT_EQ(record.file(1), text_of(100, 2));
  EXPECT_EQ(record.file(0).substr(0, 3 * small_chunk),
            text_of(5 * small_chunk + 99, 1).substr(0, 3 * small_chunk));
  EXPECT_EQ(load->counts().disk_bytes, 3 * small_chunk + 99 + 100);
  EXPECT_EQ(load->counts().total_bytes, load->counts().disk_bytes);
}

TEST(load_pipeline_test, a_second_load_reads_nothing) {
  const auto file = std::make_shared<scripted_origin>(1, text_of(6 * small_chunk + 1));
  file->open();
  const auto pool = open_pool({}, 16);
  load_pipeline pipeline{pool};
  const auto guessed = pipeline.reload_seconds(1000);
  for (const bool warm : {false, true}) {
    load_record record;
    const auto load = pipeline.start(plan_of(file), load_priority::demand, record.events());
    EXPECT_FALSE(record.wait());
    EXPECT_EQ(record.file(0), text_of(6 * small_chunk + 1));
    EXPECT_EQ(load->counts().pool_bytes, warm ? load->counts().total_bytes : 0);
  }
  EXPECT_EQ(file->asked().size(), 7u);
  EXPECT_GT(pipeline.reload_seconds(1000), 0);
  EXPECT_NE(pipeline.reload_seconds(1000), guessed);
}

TEST(load_pipeline_test, a_file_of_many_times_the_pool_streams_through_it) {
  const auto content = text_of(64 * small_chunk + 5);
  const auto file = std::make_shared<scripted_origin>(1, content);
  file->open();
  const auto pool = open_pool({}, 16);
  // One at a time, so that what stays does not depend on whose turn it was.
  load_pipeline pipeline{pool, {.chunks_in_flight = 1, .workers = 1}};
  for (int round = 0; round < 3; ++round) {
    load_record record;
    const auto load = pipeline.start(plan_of(file), load_priority::demand, record.events());
    EXPECT_FALSE(record.wait());
    EXPECT_EQ(record.file(0), content);
    // What stays is the beginning, which the next load meets first; recency alone would have thrown
    // every chunk out just before it is wanted.
    if (round > 0) {
      EXPECT_GE(load->counts().pool_bytes, 4 * small_chunk);
    }
  }
  EXPECT_LE(pool->usage().committed_bytes, 16 * small_chunk);
}

TEST(load_pipeline_test, a_chunk_that_two_loads_want_is_read_once) {
  const auto file = std::make_shared<scripted_origin>(1, text_of(8 * small_chunk));
  const auto pool = open_pool({}, 64);
  load_pipeline pipeline{pool};
  load_record first, second;
  const auto a = pipeline.start(plan_of(file), load_priority::prefetch, first.events());
  const auto b = pipeline.start(plan_of(file), load_priority::demand, second.events(true));
  file->wait_for_reads(8);
  file->open();
  EXPECT_FALSE(first.wait());
  EXPECT_FALSE(second.wait());
  EXPECT_EQ(file->asked().size(), 8u);
  EXPECT_EQ(first.file(0), second.file(0));
  EXPECT_EQ(second.file(0), text_of(8 * small_chunk));
  second.let_go();
  EXPECT_EQ(pool->usage().leased_bytes, 0u);
}

TEST(load_pipeline_test, a_load_that_a_user_waits_for_overtakes_a_prefetch) {
  const auto slow = std::make_shared<scripted_origin>(1, text_of(30 * small_chunk, 1));
  const auto wanted = std::make_shared<scripted_origin>(2, text_of(10 * small_chunk, 2));
  const auto pool = open_pool({}, 64);
  load_pipeline pipeline{pool, {.chunks_in_flight = 4, .workers = 1}};
  load_record prefetch, demand;
  pipeline.start(plan_of(slow), load_priority::prefetch, prefetch.events());
  slow->wait_for_reads(4);
  pipeline.start(plan_of(wanted), load_priority::demand, demand.events());
  wanted->open();
  slow->answer_one();
  EXPECT_FALSE(demand.wait());
  EXPECT_LE(slow->asked().size(), 5u) << "a prefetch was asked for while a user waited";
  slow->open();
  EXPECT_FALSE(prefetch.wait());
  EXPECT_EQ(prefetch.file(0), text_of(30 * small_chunk, 1));
}

TEST(load_pipeline_test, a_prefetch_that_becomes_wanted_goes_first) {
  const auto a = std::make_shared<scripted_origin>(1, text_of(9 * small_chunk, 1));
  const auto b = std::make_shared<scripted_origin>(2, text_of(9 * small_chunk, 2));
  const auto pool = open_pool({}, 64);
  load_pipeline pipeline{pool, {.chunks_in_flight = 1, .workers = 1}};
  load_record first, second;
  pipeline.start(plan_of(a), load_priority::prefetch, first.events());
  const auto later = pipeline.start(plan_of(b), load_priority::prefetch, second.events());
  a->wait_for_reads(1);
  later->set_priority(load_priority::demand);
  b->open();
  a->answer_one();
  EXPECT_FALSE(second.wait());
  EXPECT_LE(a->asked().size(), 2u);
  a->open();
  EXPECT_FALSE(first.wait());
}

TEST(load_pipeline_test, a_caller_that_keeps_chunks_slows_its_load_down_but_no_other) {
  const auto kept = std::make_shared<scripted_origin>(1, text_of(20 * small_chunk, 1));
  kept->open();
  const auto pool = open_pool({}, 8);
  load_pipeline pipeline{pool, {.chunks_in_flight = 2, .workers = 2}};
  load_record record;
  pipeline.start(plan_of(kept), load_priority::demand, record.events(true));
  record.wait_for_chunks(8);
  EXPECT_EQ(pool->usage().leased_bytes, 8 * small_chunk);
  record.let_go();
  record.wait_for_chunks(16);
  record.let_go();
  EXPECT_FALSE(record.wait());
  EXPECT_EQ(record.file(0), text_of(20 * small_chunk, 1));
}

TEST(load_pipeline_test, cancel_frees_everything_and_says_so_once) {
  const auto file = std::make_shared<scripted_origin>(1, text_of(20 * small_chunk));
  const auto pool = open_pool({}, 32);
  load_pipeline pipeline{pool};
  load_record record;
  const auto load = pipeline.start(plan_of(file), load_priority::demand, record.events());
  file->wait_for_reads(8);
  file->answer_one();
  file->answer_one();
  record.wait_for_chunks(2);
  load->cancel();
  load->cancel();
  file->open();
  EXPECT_TRUE(record.wait() == errc::cancelled);
  EXPECT_EQ(pool->usage().leased_bytes, 0u);
  // What was read for it is not lost, and its place can be had.
  load_record again;
  pipeline.start(plan_of(file), load_priority::demand, again.events());
  EXPECT_FALSE(again.wait());
  EXPECT_EQ(again.file(0), text_of(20 * small_chunk));
  EXPECT_EQ(file->asked().size(), 20u);
}

TEST(load_pipeline_test, a_pipeline_that_goes_away_tells_every_load) {
  const auto file = std::make_shared<scripted_origin>(1, text_of(20 * small_chunk));
  const auto pool = open_pool({}, 32);
  load_record record;
  std::shared_ptr<load> load;
  std::thread answering;
  {
    load_pipeline pipeline{pool};
    load = pipeline.start(plan_of(file), load_priority::demand, record.events());
    file->wait_for_reads(8);
    answering = std::thread{[&] { file->open(); }};
  }
  answering.join();
  const auto why = record.wait();
  EXPECT_TRUE(!why || why == errc::cancelled) << describe(why);
  load->cancel(); // harmless
  EXPECT_EQ(pool->usage().leased_bytes, 0u);
}

TEST(load_pipeline_test, the_first_failure_ends_the_load_and_the_file_can_be_loaded_again) {
  const auto file = std::make_shared<scripted_origin>(1, text_of(10 * small_chunk));
  const auto pool = open_pool({}, 64);
  load_pipeline pipeline{pool};
  load_record record;
  pipeline.start(plan_of(file), load_priority::demand, record.events());
  file->wait_for_reads(10);
  file->answer_one(caf::make_error(errc::unreadable, "file 1: at byte 0 the disk is gone"));
  file->open();
  const auto why = record.wait();
  EXPECT_TRUE(why == errc::unreadable);
  EXPECT_EQ(describe(why), "file 1: at byte 0 the disk is gone");
  EXPECT_EQ(pool->usage().leased_bytes, 0u);
  load_record again;
  pipeline.start(plan_of(file), load_priority::demand, again.events());
  EXPECT_FALSE(again.wait());
}

TEST(load_pipeline_test, an_error_of_the_caller_ends_the_load_with_it) {
  const auto file = std::make_shared<scripted_origin>(1, text_of(10 * small_chunk));
  file->open();
  const auto pool = open_pool({}, 32);
  load_pipeline pipeline{pool};
  load_record record;
  auto events = record.events();
  events.chunk = [](loaded_chunk) { return caf::make_error(errc::no_memory, "device full"); };
  pipeline.start(plan_of(file), load_priority::demand, events);
  EXPECT_TRUE(record.wait() == errc::no_memory);
}

TEST(load_pipeline_test, what_is_read_and_what_the_pool_holds_come_at_the_same_time) {
  const auto file = std::make_shared<scripted_origin>(1, text_of(12 * small_chunk));
  const auto pool = open_pool({}, 64);
  load_pipeline pipeline{pool, {.chunks_in_flight = 2, .workers = 1}};
  for (const uint64_t first : {0, 9}) { // the pool gets its beginning, then its end
    load_record record;
    load_plan part{{planned(file)}, {{0, first * small_chunk, 3 * small_chunk}}};
    pipeline.start(part, load_priority::demand, record.events());
    for (int i = 0; i < 3; ++i)
      file->answer_one();
    EXPECT_FALSE(record.wait());
  }
  load_record record;
  const auto load = pipeline.start(plan_of(file), load_priority::demand, record.events());
  record.wait_for_chunks(6); // though nothing was read yet
  EXPECT_EQ(record.ranges(), 3u);
  file->wait_for_reads(8);
  EXPECT_THAT(file->asked(), testing::Contains(3 * small_chunk));
  file->open();
  EXPECT_FALSE(record.wait());
  EXPECT_EQ(record.file(0), text_of(12 * small_chunk));
  EXPECT_EQ(load->counts().pool_bytes, 6 * small_chunk);
  EXPECT_EQ(file->asked().size(), 12u);
}

TEST(load_pipeline_test, an_empty_plan_is_done_at_once) {
  const auto pool = open_pool({}, 4);
  load_pipeline pipeline{pool};
  load_record record;
  pipeline.start({}, load_priority::demand, record.events());
  EXPECT_FALSE(record.wait());
}

TEST(load_pipeline_test, one_bad_transfer_is_read_again) {
  const auto content = text_of(2 * small_chunk);
  const auto pool = open_pool({}, 4);
  const auto sums = fresh_sums(content.size());
  auto damaged = content;
  damaged[small_chunk + 7] ^= 1;
  const auto bytes = std::as_bytes(std::span{content});
  ASSERT_FALSE(sums->check(0, checksum_of(bytes.first(small_chunk))));
  ASSERT_FALSE(sums->check(small_chunk, checksum_of(bytes.subspan(small_chunk))));
  /// Delivers other bytes the first time.
  class flaky final : public chunk_origin {
  public:
    flaky(std::string first, std::string then) : first_{std::move(first)}, then_{std::move(then)} {}
    std::string name() const override { return "flaky"; }
    uint64_t size_bytes() const override { return then_.size(); }
    checksum key() const override { return {5, 5}; }
    caf::error check_unchanged() const override { return {}; }
    void read(uint64_t offset, std::span<std::byte> into, read_done done) override {
      const auto& from = offset == small_chunk && reads_++ == 0 ? first_ : then_;
      std::memcpy(into.data(), from.data() + offset, into.size());
      done({});
    }

  private:
    const std::string first_, then_;
    int reads_ = 0;
  };
  load_pipeline pipeline{pool};
  load_record record;
  load_plan plan{{{std::make_shared<flaky>(damaged, content), sums}}, {{0, 0, content.size()}}};
  pipeline.start(plan, load_priority::demand, record.events());
  EXPECT_FALSE(record.wait());
  EXPECT_EQ(record.file(0), content);
}

TEST(load_pipeline_test, many_loads_of_shared_files_from_many_threads_all_get_the_right_bytes) {
  std::vector<std::shared_ptr<scripted_origin>> files;
  for (uint64_t i = 0; i < 4; ++i) {
    files.push_back(std::make_shared<scripted_origin>(i, text_of((5 + i) * small_chunk + i, i)));
    files.back()->open();
  }
  const auto pool = open_pool({}, 10);
  load_pipeline pipeline{pool, {.chunks_in_flight = 6, .workers = 3}};
  std::vector<std::thread> threads;
  for (uint64_t seed = 0; seed < 4; ++seed)
    threads.emplace_back([&, seed] {
      std::mt19937_64 random{seed};
      for (int i = 0; i < 30; ++i) {
        const auto index = random() % files.size();
        load_record record;
        const auto load = pipeline.start(
            plan_of(files[index]), random() % 2 ? load_priority::demand : load_priority::prefetch,
            record.events());
        if (random() % 4 == 0) {
          load->cancel();
          record.wait();
        } else {
          EXPECT_FALSE(record.wait());
          EXPECT_EQ(record.file(0), text_of((5 + index) * small_chunk + index, index));
        }
      }
    });
  for (auto& thread : threads)
    thread.join();
  EXPECT_EQ(pool->usage().leased_bytes, 0u);
}

} // namespace
} // namespace troupe::storage
