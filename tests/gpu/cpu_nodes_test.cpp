#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <mutex>
#include <set>
#include <thread>

#include "gpu/cpu/core_set.hpp"
#include "gpu/cpu/thread_pool.hpp"
#include "gpu/cpu_nodes.hpp"
#include "gpu/self_check.hpp"

namespace troupe::gpu {
namespace {

using cores = std::vector<unsigned>;

TEST(core_list, is_numbers_and_ranges) {
  EXPECT_EQ(cpu::parse_core_list("0-3,8,10-11"), (cores{0, 1, 2, 3, 8, 10, 11}));
  EXPECT_EQ(cpu::parse_core_list("5"), cores{5});
  EXPECT_EQ(cpu::parse_core_list("4,2-4"), (cores{2, 3, 4}));
}

TEST(core_list, leaves_out_what_makes_no_sense) {
  EXPECT_EQ(cpu::parse_core_list(""), cores{});
  EXPECT_EQ(cpu::parse_core_list("x,3-1,-2,1-,99999999,,7"), cores{7});
}

/// The cores that this thread may run on, one node per core, as the kernel would list them.
class fake_nodes {
public:
  fake_nodes() {
    const auto here = cpu::core_set::of_this_thread();
    for (unsigned core = 0; core < CPU_SETSIZE; ++core)
      if (here.has(core))
        all.push_back(core);
    write("online", "0-" + std::to_string(all.size()));
    for (size_t i = 0; i < all.size(); ++i)
      add_node(i, std::to_string(all[i]));
    add_node(all.size(), ""); // memory without cores
  }
  ~fake_nodes() { std::filesystem::remove_all(root); }

  cores all;
  const std::string root = ::testing::TempDir() + "nodes" + std::to_string(getpid());

private:
  void add_node(size_t id, const std::string& list) {
    const auto folder = "node" + std::to_string(id);
    write(folder + "/cpulist", list);
    write(folder + "/meminfo", "\nNode 0 MemTotal:       2048 kB\nNode 0 MemFree: 1 kB");
  }
  void write(const std::string& name, const std::string& text) {
    const std::filesystem::path path{root + "/" + name};
    std::filesystem::create_directories(path.parent_path());
    std::ofstream{path} << text << "\n";
  }
};

TEST(cpu_nodes, are_those_with_cores_and_memory) {
  const fake_nodes fake;
  const auto nodes = cpu_nodes(fake.root);
  ASSERT_EQ(nodes.size(), fake.all.size());
  for (size_t i = 0; i < nodes.size(); ++i) {
    EXPECT_EQ(nodes[i].id, static_cast<int>(i));
    EXPECT_EQ(nodes[i].cores, cores{fake.all[i]});
    EXPECT_EQ(nodes[i].memory_bytes, 2048u * 1024);
  }
  EXPECT_TRUE(cpu_nodes(fake.root + "/missing").empty());
}

TEST(cpu_nodes, a_pool_held_to_cores_runs_nowhere_else) {
  const fake_nodes fake;
  std::thread{[&] { // the caller is held, too
    for (const auto& node : cpu_nodes(fake.root)) {
      cpu::thread_pool pool{3, cpu::core_set{node.cores}};
      std::mutex mutex;
      std::set<unsigned> seen;
      for (int round = 0; round < 20; ++round)
        pool.run(30, [&](int64_t, unsigned) {
          const auto here = cpu::core_set::of_this_thread();
          const std::lock_guard guard{mutex};
          for (const auto core : fake.all)
            if (here.has(core))
              seen.insert(core);
        });
      EXPECT_EQ(seen, std::set<unsigned>{node.cores.front()});
    }
  }}
      .join();
}

TEST(cpu_nodes, a_device_on_a_node_computes_right_and_has_its_memory) {
  const fake_nodes fake;
  std::thread{[&] {
    for (const auto& node : cpu_nodes(fake.root)) {
      auto roomy = node;
      roomy.memory_bytes = uint64_t{1} << 30;
      const auto device = make_cpu_device({}, roomy);
      EXPECT_FALSE(self_check(*device));
      EXPECT_LE(device->memory_bytes(), roomy.memory_bytes);
      EXPECT_NE(device->name().find("1 thread)"), std::string::npos) << device->name();
      const auto queue = device->second_queue();
      EXPECT_FALSE(self_check(*queue));
      EXPECT_EQ(cpu::core_set::of_this_thread().size(), 1u);
    }
  }}.join();
}

} // namespace
} // namespace troupe::gpu
