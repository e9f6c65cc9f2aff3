#include "engine/model/workspace.hpp"

#include <algorithm>

#include <gtest/gtest.h>

#include "engine/errors.hpp"

namespace troupe::engine {
namespace {

/// Fills what it takes with a number of its own.
class numbered_user final : public workspace_user {
public:
  numbered_user(workspace& of, uint64_t size_bytes, unsigned char number)
      : of_{of}, size_bytes_{size_bytes}, number_{number}, why{of.join(*this, size_bytes)} {}
  ~numbered_user() override { of_.leave(*this); }
  void put_aside() override {
    EXPECT_TRUE(is_untouched()) << "told too late";
    ++put_aside_;
  }
  void moves() override { ++moves_; }
  void write() {
    const auto base = of_.take(*this);
    ASSERT_TRUE(base);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(*base) % 64, 0u);
    at_ = *base;
    std::fill_n(at_, size_bytes_, std::byte{number_});
  }
  bool is_untouched() const {
    return std::all_of(at_, at_ + size_bytes_,
                       [&](std::byte one) { return one == std::byte{number_}; });
  }
  int put_aside_count() const { return put_aside_; }
  int moves_count() const { return moves_; }

private:
  workspace& of_;
  uint64_t size_bytes_;
  unsigned char number_;
  std::byte* at_ = nullptr;
  int put_aside_ = 0, moves_ = 0;

public:
  caf::error why; ///< it could not join
};

TEST(workspaces, are_as_large_as_the_largest_user_needs) {
  const auto device = gpu::make_reference_device();
  workspace work{*device};
  EXPECT_EQ(work.size_bytes(), 0u);
  {
    const numbered_user small{work, 1000, 1};
    EXPECT_EQ(work.size_bytes(), 1000u);
    {
      const numbered_user large{work, 3000, 2}, middle{work, 2000, 3};
      EXPECT_EQ(work.size_bytes(), 3000u);
      EXPECT_EQ(small.moves_count(), 2); // when it came itself, too
      EXPECT_EQ(middle.moves_count(), 0);
    }
    EXPECT_EQ(work.size_bytes(), 1000u);
    EXPECT_EQ(small.moves_count(), 3);
  }
  EXPECT_EQ(work.size_bytes(), 0u);
}

TEST(workspaces, tell_whoever_had_them_last_before_another_one_writes) {
  const auto device = gpu::make_reference_device();
  workspace work{*device};
  numbered_user one{work, 1000, 1}, other{work, 500, 2};
  one.write();
  EXPECT_TRUE(work.is_left_to(one));
  one.write();
  EXPECT_EQ(one.put_aside_count(), 0);
  other.write();
  EXPECT_EQ(one.put_aside_count(), 1);
  EXPECT_TRUE(work.is_left_to(other) && !work.is_left_to(one));
  {
    const numbered_user large{work, 2000, 3};
    EXPECT_EQ(other.put_aside_count(), 1);
    EXPECT_EQ(one.put_aside_count(), 1);
    EXPECT_FALSE(work.is_left_to(other));
    other.write();
  }
  EXPECT_EQ(other.put_aside_count(), 2);
}

TEST(workspaces, that_cannot_grow_stay_as_they_are_for_the_others) {
  const auto device = gpu::make_cpu_device({1, {}, "", 10'000});
  workspace work{*device};
  numbered_user small{work, 6000, 1};
  ASSERT_FALSE(small.why);
  const numbered_user large{work, 10'001, 2};
  EXPECT_EQ(large.why, errc::out_of_memory);
  EXPECT_NE(describe(large.why).find("a workspace of 10001 bytes"), std::string::npos);
  EXPECT_EQ(work.size_bytes(), 6000u);
  small.write();
  const numbered_user fits{work, 10'000, 3}; // what was there first is given back first
  EXPECT_FALSE(fits.why);
  EXPECT_EQ(work.size_bytes(), 10'000u);
}

} // namespace
} // namespace troupe::engine
