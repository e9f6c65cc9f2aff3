#include "storage/pipeline/source_origin.hpp"

#include "storage/sources/file_source.hpp"
#include "tests/storage/pipeline/pipeline_fixture.hpp"

namespace troupe::storage {
namespace {

using test::load_record;
using test::open_pool;
using test::scripted_origin;
using test::small_chunk;
using test::text_of;

planned_file planned(std::shared_ptr<chunk_origin> origin) {
  const test::temporary_directory root;
  test::write_file(root.path() / "w", std::string(origin->size_bytes(), 'x'));
  const auto file = disk_file::open(root.path() / "w");
  return {std::move(origin), ledger{{}, small_chunk}.open({*file})->front()};
}

load_plan whole(const std::shared_ptr<chunk_origin>& origin) {
  return {{planned(origin)}, {{0, 0, origin->size_bytes()}}};
}

TEST(source_origin_test, a_file_of_a_source_goes_straight_into_the_pool) {
  const test::temporary_directory root;
  const auto content = text_of(5 * small_chunk + 3);
  test::write_file(root.path() / "m" / "w.safetensors", content);
  auto source = open_file_source(root.path() / "m");
  ASSERT_TRUE(source);
  const auto file = (*source)->stat("w.safetensors");
  ASSERT_TRUE(file);
  job_threads threads{4};
  const auto pool = open_pool({}, 16);
  load_pipeline pipeline{pool};
  for (const bool warm : {false, true}) {
    load_record record;
    const auto load = pipeline.start(whole(make_source_origin(threads, *source, *file)),
                                     load_priority::demand, record.events());
    EXPECT_FALSE(record.wait());
    EXPECT_EQ(record.file(0), content);
    EXPECT_EQ(load->counts().pool_bytes, warm ? content.size() : 0);
  }
  auto changed = *file;
  changed.version = "another";
  EXPECT_NE(make_source_origin(threads, *source, changed)->key(),
            make_source_origin(threads, *source, *file)->key());
  changed.version.clear();
  EXPECT_NE(make_source_origin(threads, *source, changed)->key(),
            make_source_origin(threads, *source, changed)->key());
}

TEST(joint_origin_test, reads_are_shared_out_by_what_is_owed) {
  const auto content = text_of(8 * small_chunk);
  const auto a = std::make_shared<scripted_origin>(1, content);
  const auto b = std::make_shared<scripted_origin>(2, content);
  const auto pool = open_pool({}, 64);
  load_pipeline pipeline{pool};
  load_record record;
  pipeline.start(whole(make_joint_origin({a, b})), load_priority::demand, record.events());
  a->wait_for_reads(4);
  b->wait_for_reads(4);
  a->open(), b->open();
  EXPECT_FALSE(record.wait());
  EXPECT_EQ(record.file(0), content);
  EXPECT_EQ(a->asked().size(), 4u);
  EXPECT_EQ(b->asked().size(), 4u);
}

TEST(joint_origin_test, what_one_has_in_memory_is_read_from_there) {
  const auto content = text_of(8 * small_chunk);
  for (const bool fails : {false, true}) {
    const auto a = std::make_shared<scripted_origin>(1, content);
    const auto b = std::make_shared<scripted_origin>(2, content);
    for (uint64_t chunk = 1; chunk < 7; ++chunk)
      b->cached.insert(chunk * small_chunk);
    const auto pool = open_pool({}, 64);
    load_pipeline pipeline{pool};
    load_record record;
    const auto load =
        pipeline.start(whole(make_joint_origin({a, b})), load_priority::demand, record.events());
    b->wait_for_reads(6);
    if (fails)
      b->answer_one(caf::make_error(errc::unreadable, "a bad sector"));
    a->open(), b->open();
    EXPECT_FALSE(record.wait());
    EXPECT_EQ(record.file(0), content);
    EXPECT_EQ(load->counts().cached_bytes, 6 * small_chunk);
    const auto asked = b->asked();
    for (const auto offset : b->cached)
      EXPECT_EQ(std::ranges::count(asked, offset), 1) << offset;
    EXPECT_EQ(a->asked().size() + asked.size(), fails ? 9u : 8u);
  }
}

TEST(joint_origin_test, an_origin_that_is_lost_costs_what_it_owed_and_no_more) {
  const auto content = text_of(16 * small_chunk + 9);
  const auto a = std::make_shared<scripted_origin>(1, content);
  const auto b = std::make_shared<scripted_origin>(2, content);
  const auto pool = open_pool({}, 64);
  load_pipeline pipeline{pool, {.chunks_in_flight = 8, .workers = 2}};
  load_record record;
  pipeline.start(whole(make_joint_origin({a, b})), load_priority::demand, record.events());
  a->wait_for_reads(4);
  b->wait_for_reads(4);
  a->answer_one();
  for (int i = 0; i < 3; ++i)
    a->answer_one(caf::make_error(errc::unavailable, "gone"));
  b->open();
  a->open(); // what was asked of it before it failed may still come
  EXPECT_FALSE(record.wait());
  EXPECT_EQ(record.file(0), content);
  EXPECT_LE(a->asked().size() + b->asked().size(), 17u + 4);
}

TEST(joint_origin_test, when_all_are_lost_the_load_fails_as_the_last_one_did) {
  const auto content = text_of(small_chunk);
  const auto a = std::make_shared<scripted_origin>(1, content);
  const auto b = std::make_shared<scripted_origin>(2, content);
  const auto pool = open_pool({}, 64);
  load_pipeline pipeline{pool};
  load_record record;
  pipeline.start(whole(make_joint_origin({a, b})), load_priority::demand, record.events());
  a->answer_one(caf::make_error(errc::unavailable, "the first is gone"));
  b->answer_one(caf::make_error(errc::unavailable, "the second is gone"));
  const auto why = record.wait();
  EXPECT_TRUE(why == errc::unavailable);
  EXPECT_EQ(describe(why), "the second is gone");
}

} // namespace
} // namespace troupe::storage
