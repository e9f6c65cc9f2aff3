#include "gpu/cpu_nodes.hpp"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <string>

#include "gpu/cpu/core_set.hpp"
#include "gpu/cpu/cpu_device.hpp"
#include "gpu/cpu/host_limits.hpp"

namespace troupe::gpu {
namespace {

std::string first_line(const std::string& path) {
  std::ifstream file{path};
  std::string line;
  std::getline(file, line);
  return line;
}

/// "Node 1 MemTotal:  24684092 kB" among other lines; 0 if it is not there.
uint64_t memory_of(const std::string& path) {
  std::ifstream file{path};
  for (std::string line; std::getline(file, line);) {
    const auto at = line.find("MemTotal:");
    if (at != std::string::npos)
      return std::strtoull(line.c_str() + at + sizeof "MemTotal:" - 1, nullptr, 10) * 1024;
  }
  return 0;
}

} // namespace

std::vector<cpu_node> cpu_nodes(const std::string& root) {
  const auto allowed = cpu::core_set::of_this_thread();
  std::vector<cpu_node> nodes;
  for (const auto id : cpu::parse_core_list(first_line(root + "/online"))) {
    const auto folder = root + "/node" + std::to_string(id);
    cpu_node node;
    node.id = static_cast<int>(id);
    for (const auto core : cpu::parse_core_list(first_line(folder + "/cpulist")))
      if (allowed.has(core))
        node.cores.push_back(core);
    node.memory_bytes = memory_of(folder + "/meminfo");
    if (!node.cores.empty() && node.memory_bytes != 0)
      nodes.push_back(std::move(node));
  }
  return nodes;
}

std::unique_ptr<device> make_cpu_device(const device_options& options, const cpu_node& node) {
  auto own = options;
  own.memory_bytes = options.memory_bytes == 0 ? node.memory_bytes
                                               : std::min(options.memory_bytes, node.memory_bytes);
  if (own.threads == 0)
    own.threads = std::min(cpu::host_cores(), static_cast<unsigned>(node.cores.size()));
  return std::make_unique<cpu::cpu_device>(own, cpu::core_set{node.cores});
}

} // namespace troupe::gpu
