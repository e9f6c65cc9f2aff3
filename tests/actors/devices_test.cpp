#include "actors/devices.hpp"

#include <gtest/gtest.h>

#include "actors/errors.hpp"
#include "gpu/cpu_nodes.hpp"

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
  for (const char* name :
       {"", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:0x", "CPU", "cpu:", "cpu:x", "cpu:-1"}) {
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

TEST(devices, numa_means_a_device_for_every_node) {
  const auto opened = open_devices({"numa"}, {});
  ASSERT_TRUE(opened);
  std::vector<std::string> expected;
  for (const auto& node : gpu::cpu_nodes())
    expected.push_back("cpu:" + std::to_string(node.id));
  EXPECT_EQ(ids(*opened), expected.empty() ? std::vector<std::string>{"cpu"} : expected);
}

TEST(devices, a_node_that_is_not_there_is_an_error_that_names_those_that_are) {
  const auto opened = open_devices({"cpu:4095"}, {});
  ASSERT_FALSE(opened);
  const auto text = describe(opened.error());
  for (const auto& node : gpu::cpu_nodes())
    EXPECT_NE(text.find("cpu:" + std::to_string(node.id)), std::string::npos) << text;
}

TEST(devices, the_same_cores_are_not_given_twice) {
  const auto nodes = gpu::cpu_nodes();
  if (nodes.empty())
    GTEST_SKIP() << "the system does not tell of NUMA nodes";
  const auto node = "cpu:" + std::to_string(nodes.front().id);
  EXPECT_FALSE(open_devices({"cpu", node}, {}));
  const auto twice = open_devices({node, node, "numa"}, {});
  ASSERT_TRUE(twice);
  EXPECT_EQ(twice->size(), nodes.size());
}

} // namespace
} // namespace troupe::actors
