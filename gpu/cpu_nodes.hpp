#pragma once
#include <memory>
#include <string>
#include <vector>

#include "gpu/device.hpp"

namespace troupe::gpu {

/// A NUMA node: cores, and the memory that is next to them.
struct cpu_node {
  int id = 0;
  std::vector<unsigned> cores; ///< those that this process may run on, ascending
  uint64_t memory_bytes = 0;
};

/// The NUMA nodes on whose cores this process may run, in the order of their numbers; none where
/// the system does not tell. `root` is where the kernel lists them.
std::vector<cpu_node> cpu_nodes(const std::string& root = "/sys/devices/system/node");

/// The CPU backend on one node: its threads, and each that calls its ops, run on the node's cores,
/// so that the memory which they touch first lies next to them. `options.threads` 0 = one per core
/// of the node. A calling thread stays on the node's cores until it works for another device of
/// this kind.
std::unique_ptr<device> make_cpu_device(const device_options& options, const cpu_node& node);

} // namespace troupe::gpu
