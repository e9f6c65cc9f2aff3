#include "gpu/cpu/host_limits.hpp"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

namespace troupe::gpu::cpu {
namespace {

constexpr uint64_t no_limit = std::numeric_limits<uint64_t>::max();

/// The folders of the control groups that hold this process, ancestors included. `v1` names a
/// controller of the old hierarchy; empty means the unified one.
std::vector<std::string> cgroup_folders(const std::string& v1) {
  const std::string mark = v1.empty() ? "0::/" : ":" + v1 + ":/";
  const std::string root = v1.empty() ? "/sys/fs/cgroup" : "/sys/fs/cgroup/" + v1;
  std::vector<std::string> folders{root};
  std::ifstream groups{"/proc/self/cgroup"};
  for (std::string line; std::getline(groups, line);) {
    const auto at = line.find(mark);
    if (at == std::string::npos || (v1.empty() && at != 0))
      continue;
    for (auto group = line.substr(at + mark.size() - 1); group.size() > 1;
         group.resize(group.rfind('/')))
      folders.push_back(root + group);
  }
  return folders;
}

/// The number that a file begins with; "max", an absent file or nonsense mean no limit.
uint64_t limit_in(const std::string& path) {
  std::ifstream file{path};
  uint64_t value = 0;
  return file >> value && value != 0 ? value : no_limit;
}

/// Cores in a cpu.max file ("200000 100000" is two); at least one.
uint64_t quota_in(const std::string& path) {
  std::ifstream file{path};
  uint64_t quota = 0, period = 0;
  if (!(file >> quota >> period) || period == 0)
    return no_limit;
  return std::max((quota + period - 1) / period, uint64_t{1});
}

} // namespace

uint64_t host_memory_bytes() {
  const auto pages = std::max(sysconf(_SC_PHYS_PAGES), 0L);
  const auto page_bytes = std::max(sysconf(_SC_PAGESIZE), 0L);
  uint64_t bytes = static_cast<uint64_t>(pages) * static_cast<uint64_t>(page_bytes);
  for (const auto& folder : cgroup_folders(""))
    bytes = std::min(bytes, limit_in(folder + "/memory.max"));
  for (const auto& folder : cgroup_folders("memory"))
    bytes = std::min(bytes, limit_in(folder + "/memory.limit_in_bytes"));
  return bytes;
}

unsigned host_cores() {
  cpu_set_t mask;
  uint64_t cores = 1;
  if (sched_getaffinity(0, sizeof mask, &mask) == 0)
    cores = static_cast<uint64_t>(CPU_COUNT(&mask));
  else // more cores than the mask has bits
    cores = static_cast<uint64_t>(std::max(sysconf(_SC_NPROCESSORS_ONLN), 1L));
  for (const auto& folder : cgroup_folders(""))
    cores = std::min(cores, quota_in(folder + "/cpu.max"));
  return static_cast<unsigned>(cores);
}

} // namespace troupe::gpu::cpu
