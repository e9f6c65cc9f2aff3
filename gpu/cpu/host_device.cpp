#include "gpu/cpu/host_device.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <string>

#include "gpu/errors.hpp"

namespace troupe::gpu::cpu {
namespace {

constexpr size_t alignment = 64;

/// The number in a one-line file; "max", an absent file or nonsense mean no limit.
uint64_t limit_in(const std::string& path) {
  constexpr uint64_t no_limit = std::numeric_limits<uint64_t>::max();
  std::ifstream file{path};
  uint64_t value = 0;
  return file >> value && value != 0 ? value : no_limit;
}

/// The smallest memory limit of the control groups (v2, then v1) this process is in, its
/// ancestors included.
uint64_t cgroup_limit() {
  uint64_t limit = std::min(limit_in("/sys/fs/cgroup/memory.max"),
                            limit_in("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
  std::ifstream groups{"/proc/self/cgroup"};
  for (std::string line; std::getline(groups, line);) {
    const bool v2 = line.starts_with("0::/");
    const auto v1 = line.find(":memory:/");
    if (!v2 && v1 == std::string::npos)
      continue;
    std::string group = v2 ? line.substr(3) : line.substr(v1 + 8);
    while (group.size() > 1) {
      limit = std::min(limit, v2 ? limit_in("/sys/fs/cgroup" + group + "/memory.max")
                                 : limit_in("/sys/fs/cgroup/memory" + group
                                            + "/memory.limit_in_bytes"));
      group.resize(group.rfind('/'));
    }
  }
  return limit;
}

} // namespace

uint64_t host_memory_bytes() {
  const auto pages = sysconf(_SC_PHYS_PAGES);
  const auto page_bytes = sysconf(_SC_PAGESIZE);
  const auto physical = static_cast<uint64_t>(std::max(pages, 0L))
                        * static_cast<uint64_t>(std::max(page_bytes, 0L));
  return std::min(physical, cgroup_limit());
}

host_device::host_device() : memory_bytes_{host_memory_bytes()} {}

caf::expected<buffer> host_device::allocate(size_t size_bytes) {
  const uint64_t room = memory_bytes_ - std::min(allocated_bytes_, memory_bytes_);
  void* data = nullptr;
  if (size_bytes <= room) {
    const size_t rounded = std::max((size_bytes + alignment - 1) / alignment, size_t{1}) * alignment;
    data = std::aligned_alloc(alignment, rounded);
  }
  if (data == nullptr)
    return caf::make_error(errc::out_of_memory,
                           "allocating " + std::to_string(size_bytes) + " bytes on " + name()
                             + ": " + std::to_string(allocated_bytes_) + " of "
                             + std::to_string(memory_bytes_)
                             + " bytes are in use; load a smaller model or lower the KV memory");
  allocated_bytes_ += size_bytes;
  return buffer{this, data, size_bytes};
}

void host_device::release(void* data, size_t size_bytes) noexcept {
  std::free(data);
  allocated_bytes_ -= size_bytes;
}

void host_device::copy_to_device(void* to, const void* from, size_t size_bytes) {
  if (size_bytes > 0)
    std::memcpy(to, from, size_bytes);
}

void host_device::copy_to_host(void* to, const void* from, size_t size_bytes) {
  if (size_bytes > 0)
    std::memcpy(to, from, size_bytes);
}

} // namespace troupe::gpu::cpu
