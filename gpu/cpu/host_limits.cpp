#include "gpu/cpu/host_limits.hpp"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
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

/// The number behind `name` among lines of names and numbers; 0 if it is not there.
uint64_t number_of(const std::string& path, const std::string& name) {
  std::ifstream file{path};
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(name + ' ') || line.starts_with(name + ':'))
      return std::strtoull(line.c_str() + name.size() + 1, nullptr, 10);
  return 0;
}

/// What a control group leaves: its limit less what is in use and could not simply be dropped.
uint64_t left_in(uint64_t limit, const std::string& usage, const std::string& stat,
                 const std::string& droppable) {
  if (limit == no_limit)
    return no_limit;
  const auto used = limit_in(usage), pages = number_of(stat, droppable);
  const auto held = used == no_limit || used < pages ? 0 : used - pages;
  return limit - std::min(limit, held);
}

} // namespace

uint64_t host_available_bytes() {
  auto bytes = number_of("/proc/meminfo", "MemAvailable") * 1024;
  for (const auto& folder : cgroup_folders(""))
    bytes = std::min(bytes, left_in(limit_in(folder + "/memory.max"), folder + "/memory.current",
                                    folder + "/memory.stat", "inactive_file"));
  for (const auto& folder : cgroup_folders("memory"))
    bytes = std::min(bytes, left_in(limit_in(folder + "/memory.limit_in_bytes"),
                                    folder + "/memory.usage_in_bytes", folder + "/memory.stat",
                                    "total_inactive_file"));
  return bytes;
}

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
