#include "actors/devices.hpp"

#include <gtest/gtest.h>

#include "actors/errors.hpp"

namespace troupe::actors {
namespace {

std::vector<std::string> ids(const std::vector<opened_device>& devices) {
  std::vector<std::string> out;
  for (const auto& one : devices)
    out.push_back(one.id);
  return out;
}

TEST(devices, the_cpu_comes_once_however_often_it_is_named) {
  const auto opened = open_devices({"cpu", "cpu"}, {});
  ASSERT_TRUE(opened);
  EXPECT_EQ(ids(*opened), std::vector<std::string>{"cpu"});
}

TEST(devices, auto_takes_the_cpu_where_there_is_no_gpu) {
  const auto opened = open_devices({"auto"}, {});
  ASSERT_TRUE(opened);
  ASSERT_FALSE(opened->empty());
  const bool gpu = static_cast<bool>(gpu::cuda_devices());
  EXPECT_EQ(ids(*opened) == std::vector<std::string>{"cpu"}, !gpu);
}

TEST(devices, names_that_make_no_sense_are_refused_with_what_would) {
  for (const char* name : {"", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:0x", "CPU"}) {
    const auto opened = open_devices({name}, {});
    ASSERT_FALSE(opened) << name;
    EXPECT_EQ(opened.error(), errc::invalid_options);
    EXPECT_NE(describe(opened.error()).find("cuda:N"), std::string::npos);
  }
  EXPECT_FALSE(open_devices({}, {}));
}

TEST(devices, a_named_device_that_is_not_there_is_an_error) {
  EXPECT_FALSE(open_devices({"cpu", "cuda:4095"}, {}));
}

} // namespace
} // namespace troupe::actors
