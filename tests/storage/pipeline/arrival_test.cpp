// Weights that are loaded while their file is still being fetched.
#include "storage/store/arrival.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <thread>

#include "storage/checkpoint_identity.hpp"
#include "storage/pipeline/pooled_weights.hpp"
#include "tests/storage/pipeline/pipeline_fixture.hpp"

namespace troupe::storage {
namespace {

namespace fs = std::filesystem;
using test::small_chunk;
using test::text_of;

/// A model of one file that comes as a test says. Tensor "a" lies before "b" before "c".
class arrival_test : public testing::Test {
protected:
  arrival_test() {
    const auto size = std::to_string(tensor_bytes);
    const auto end = std::to_string(2 * tensor_bytes), last = std::to_string(3 * tensor_bytes);
    content_ = test::safetensors(
        R"({"a":{"dtype":"U8","shape":[)" + size + R"(],"data_offsets":[0,)" + size +
            R"(]},"b":{"dtype":"U8","shape":[)" + size + R"(],"data_offsets":[)" + size + "," +
            end + R"(]},"c":{"dtype":"U8","shape":[)" + size + R"(],"data_offsets":[)" + end + "," +
            last + "]}}",
        text_of(3 * tensor_bytes, 1));
    head_ = content_.size() - 3 * tensor_bytes;
    fs::create_directories(place_.parent_path());
    fd_ = ::open(partial_.c_str(), O_RDWR | O_CREAT, 0600);
    EXPECT_EQ(::ftruncate(fd_, static_cast<off_t>(content_.size())), 0);
    EXPECT_FALSE(file_->begin(fd_, stamp, {}));
    come(0, head_);
  }
  ~arrival_test() override { ::close(fd_); }

  /// Bytes [from, to) arrive.
  void come(uint64_t from, uint64_t to) {
    ASSERT_EQ(::pwrite(fd_, content_.data() + from, to - from, static_cast<off_t>(from)),
              static_cast<ssize_t>(to - from));
    file_->came({from, to - from});
  }
  uint64_t end_of(int tensor) const { return head_ + (tensor + 1) * tensor_bytes; }
  /// The file gets to its place, with the date that was promised.
  void settle() {
    const timespec times[2] = {{0, UTIME_OMIT}, {stamp / 1'000'000'000, stamp % 1'000'000'000}};
    ASSERT_EQ(::futimens(fd_, times), 0);
    fs::rename(partial_, place_);
    file_->settled();
  }
  std::shared_ptr<weight_tiers> tiers(uint32_t chunks) {
    weight_tiers_options options;
    options.pool.chunk_bytes = small_chunk;
    options.pool.size_bytes = uint64_t{chunks} * small_chunk;
    options.checksums = root_.path() / "sums";
    options.map_cached_files = false;
    return *weight_tiers::open(options);
  }
  std::shared_ptr<const checkpoint> open_early() {
    auto out = checkpoint::open(place_.parent_path(),
                                [this](const fs::path& x) { return model_->elsewhere(x); });
    EXPECT_TRUE(out) << describe(out.error());
    return *out;
  }
  std::shared_ptr<pooled_weights> start(const std::shared_ptr<weight_tiers>& tiers,
                                        std::vector<std::string> names = {"a", "b", "c"}) {
    auto out =
        pooled_weights::start(tiers, open_early(), {.names = std::move(names), .arriving = model_});
    EXPECT_TRUE(out && *out);
    return *out;
  }
  void expect_tensor(const pooled_weights& weights, const std::string& name) {
    const auto found = weights.find(name);
    ASSERT_TRUE(found);
    const auto at = head_ + static_cast<uint64_t>(name[0] - 'a') * tensor_bytes;
    EXPECT_EQ(std::memcmp(found->bytes.data(), content_.data() + at, tensor_bytes), 0) << name;
  }

  static constexpr uint64_t tensor_bytes = 20 * small_chunk + 77;
  static constexpr int64_t stamp = 1'700'000'000'123'456'789;
  test::temporary_directory root_;
  const fs::path place_ = root_.path() / "model/model.safetensors";
  const fs::path partial_ = root_.path() / "partial";
  std::string content_;
  uint64_t head_ = 0;
  int fd_ = -1;
  const std::shared_ptr<arrival> file_ = std::make_shared<arrival>(place_);
  const std::shared_ptr<arriving_model> model_ =
      std::make_shared<arriving_model>(place_.parent_path(), 3 * tensor_bytes, std::vector{file_});
};

TEST_F(arrival_test, tensors_are_there_as_they_come_and_the_last_once_all_is_right) {
  const auto tiers = this->tiers(80);
  const auto weights = start(tiers);
  come(head_, end_of(0) + small_chunk);
  EXPECT_FALSE(weights->wait("a", tensor_bytes));
  expect_tensor(*weights, "a");
  come(end_of(0) + small_chunk, end_of(2));
  EXPECT_FALSE(weights->wait("b", tensor_bytes));
  while (weights->follow(0).bytes < weights->total_bytes())
    std::this_thread::yield();
  std::stop_source stop;
  std::optional<caf::error> why;
  std::thread waiting{[&] { why = weights->wait("c", tensor_bytes, stop.get_token()); }};
  EXPECT_FALSE(weights->follow(0).over) << "all bytes are there, but nobody has checked them";
  file_->checked();
  waiting.join();
  EXPECT_FALSE(*why);
  expect_tensor(*weights, "c");
}

TEST_F(arrival_test, weights_are_named_alike_before_and_after_and_otherwise_once_they_change) {
  const auto dir = place_.parent_path();
  test::write_file(dir / "config.json", "{}");
  const auto early = identity_of(*open_early(), dir, model_.get());
  come(head_, end_of(2));
  settle();
  const auto here = [&] {
    const auto opened = checkpoint::open(dir);
    EXPECT_TRUE(opened);
    return identity_of(**opened, dir);
  };
  EXPECT_FALSE(early.empty());
  EXPECT_EQ(here(), early);
  test::write_file(dir / "config.json", "{ }");
  const auto configured = here();
  EXPECT_NE(configured, early);
  fs::last_write_time(place_, fs::last_write_time(place_) + std::chrono::seconds{1});
  EXPECT_NE(here(), configured);
  fs::remove(dir / "config.json");
  EXPECT_EQ(here(), "") << "nobody knows what they are";
}

TEST_F(arrival_test, what_comes_out_of_turn_is_loaded_meanwhile) {
  const auto tiers = this->tiers(80);
  const auto weights = start(tiers, {"c", "a", "b"});
  come(head_, end_of(1));
  // Everything but what touches "c".
  while (weights->follow(0).bytes < 10 * small_chunk)
    std::this_thread::yield();
  come(end_of(1), end_of(2));
  file_->checked();
  EXPECT_FALSE(weights->wait("b", tensor_bytes));
  for (const auto* name : {"a", "b", "c"})
    expect_tensor(*weights, name);
}

TEST_F(arrival_test, a_pool_that_is_too_small_is_passed_through) {
  const auto tiers = this->tiers(60);
  auto weights = start(tiers);
  ASSERT_TRUE(weights->pass_through());
  std::thread source{[&] {
    for (auto at = head_; at < content_.size(); at += 1000)
      come(at, std::min<uint64_t>(at + 1000, content_.size()));
    file_->checked();
  }};
  for (const auto* name : {"a", "b", "c"}) {
    EXPECT_FALSE(weights->wait(name, tensor_bytes));
    expect_tensor(*weights, name);
    weights->release(name, tensor_bytes);
  }
  source.join();
}

TEST_F(arrival_test, wrong_bytes_fail_the_load_and_leave_the_pool) {
  const auto tiers = this->tiers(80);
  const auto weights = start(tiers);
  come(head_, end_of(2));
  while (weights->follow(0).bytes < weights->total_bytes())
    std::this_thread::yield();
  file_->fail(caf::make_error(errc::corrupted, "the sha256 is another one"));
  EXPECT_EQ(weights->wait("c", tensor_bytes), errc::corrupted);
  EXPECT_EQ(weights->wait("a", tensor_bytes), errc::corrupted) << "of the same file";
  EXPECT_EQ(tiers->pool().usage().held_bytes, 0u);
  EXPECT_FALSE(fs::exists(root_.path() / "sums"));
}

TEST_F(arrival_test, a_download_that_fails_fails_those_who_wait) {
  const auto tiers = this->tiers(80);
  const auto weights = start(tiers);
  std::thread failing{
      [&] { file_->fail(caf::make_error(errc::unavailable, "the network is down")); }};
  EXPECT_EQ(weights->wait("a", 1), errc::unavailable);
  failing.join();
}

TEST_F(arrival_test, who_gives_up_does_not_wait_for_bytes_that_never_come) {
  const auto tiers = this->tiers(80);
  {
    const auto weights = start(tiers);
    come(head_, end_of(0) + small_chunk);
    EXPECT_FALSE(weights->wait("a", tensor_bytes));
  }
  EXPECT_EQ(tiers->pool().usage().leased_bytes, 0u);
}

TEST_F(arrival_test, other_loads_go_on_while_one_waits_for_its_bytes) {
  const auto tiers = this->tiers(160);
  const auto slow = start(tiers);
  const auto other = root_.path() / "other";
  fs::create_directories(other);
  test::write_file(other / "model.safetensors", content_);
  const auto files = checkpoint::open(other);
  const auto fast = pooled_weights::start(tiers, *files, {{"a", "b", "c"}});
  ASSERT_TRUE(fast && *fast);
  EXPECT_FALSE((*fast)->wait("c", tensor_bytes));
}

TEST_F(arrival_test, a_later_load_of_the_finished_file_finds_all_in_the_pool_and_verifies_it) {
  const auto tiers = this->tiers(80);
  {
    const auto weights = start(tiers);
    come(head_, end_of(2));
    file_->checked();
    EXPECT_FALSE(weights->wait("c", tensor_bytes));
    settle();
  }
  const auto files = checkpoint::open(place_.parent_path());
  ASSERT_TRUE(files);
  const auto sums = tiers->open_sums(**files);
  ASSERT_TRUE(sums);
  EXPECT_EQ(sums->front()->expected(small_chunk),
            checksum_of(std::as_bytes(std::span{content_}).subspan(small_chunk, small_chunk)));
  const auto again = pooled_weights::start(tiers, *files, {{"a", "b", "c"}});
  ASSERT_TRUE(again && *again);
  EXPECT_FALSE((*again)->wait("c", tensor_bytes));
  expect_tensor(**again, "b");
  EXPECT_EQ((*again)->counts().disk_bytes, 0u);
}

} // namespace
} // namespace troupe::storage
