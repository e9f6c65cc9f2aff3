#include "cli/bench/machine.hpp"

#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <limits>
#include <string_view>

#include "gpu/cpu/host_limits.hpp"

namespace troupe::cli::bench {
namespace {

std::string first_line(const std::string& path) {
  std::ifstream file{path};
  std::string line;
  std::getline(file, line);
  return line;
}

/// What follows the colon in the first line of `path` that begins with `key`.
std::string field(const std::string& path, std::string_view key) {
  std::ifstream file{path};
  for (std::string line; std::getline(file, line);) {
    const auto colon = line.find(':');
    if (!line.starts_with(key) || colon == std::string::npos)
      continue;
    const auto from = line.find_first_not_of(" \t", colon + 1);
    return from == std::string::npos ? "" : line.substr(from);
  }
  return "";
}

/// "always [madvise] never" -> "madvise".
std::string chosen(const std::string& line) {
  const auto from = line.find('['), to = line.find(']');
  return from == std::string::npos || to == std::string::npos
             ? ""
             : line.substr(from + 1, to - from - 1);
}

constexpr uint64_t no_limit = std::numeric_limits<uint64_t>::max();

/// The number of bytes in a control group's file; no_limit where there is none.
uint64_t bytes_in(const std::string& path) {
  std::ifstream file{path};
  uint64_t value = 0;
  return file >> value ? value : no_limit;
}

/// The number behind the word `key` in a file of such pairs; 0 where there is none.
uint64_t bytes_after(const std::string& path, std::string_view key) {
  std::ifstream file{path};
  std::string word;
  for (uint64_t value = 0; file >> word >> value;)
    if (word == key)
      return value;
  return 0;
}

/// What the first core sees of the cache that is farthest from it; sysconf adds up all there are.
uint64_t last_cache_bytes() {
  uint64_t kib = 0;
  for (int index = 0; index < 8; ++index) {
    std::ifstream file{"/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) +
                       "/size"};
    if (!(file >> kib))
      break;
  }
  return kib * 1024;
}

/// Seconds that all cores together were not idle since the start of the system.
double machine_busy_seconds() {
  std::ifstream file{"/proc/stat"};
  std::string name;
  double user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, steal = 0;
  file >> name >> user >> nice >> system >> idle >> iowait >> irq >> softirq >> steal;
  return (user + nice + system + irq + softirq + steal) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

double own_busy_seconds() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

} // namespace

machine this_machine() {
  machine out;
  out.cpu = field("/proc/cpuinfo", "model name");
  out.cores = gpu::cpu::host_cores();
  out.memory_bytes = gpu::cpu::host_memory_bytes();
  out.last_cache_bytes = last_cache_bytes();
  out.huge_pages = chosen(first_line("/sys/kernel/mm/transparent_hugepage/enabled"));
  utsname name{};
  if (uname(&name) == 0)
    out.system = std::string{name.sysname} + " " + name.release + " " + name.machine;
  return out;
}

uint64_t free_memory_bytes() {
  uint64_t free = gpu::cpu::host_memory_bytes();
  const auto available = field("/proc/meminfo", "MemAvailable");
  uint64_t kib = 0;
  if (std::from_chars(available.data(), available.data() + available.size(), kib).ec == std::errc{})
    free = std::min(free, kib * 1024);
  const auto limit = bytes_in("/sys/fs/cgroup/memory.max");
  auto used = bytes_in("/sys/fs/cgroup/memory.current");
  // Pages of files count as used, but make room when it is needed.
  used -= std::min(used, bytes_after("/sys/fs/cgroup/memory.stat", "file"));
  if (limit != no_limit)
    free = std::min(free, limit - std::min(used, limit));
  return free;
}

neighbours::neighbours()
    : begun_{std::chrono::steady_clock::now()}, busy_seconds_{machine_busy_seconds()},
      own_seconds_{own_busy_seconds()} {}

double neighbours::share() const {
  const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begun_;
  // The kernel counts in ticks of ten milliseconds for each core.
  if (passed.count() < 0.1)
    return 0;
  const auto cores = static_cast<double>(std::max(1L, sysconf(_SC_NPROCESSORS_ONLN)));
  const double others =
      machine_busy_seconds() - busy_seconds_ - (own_busy_seconds() - own_seconds_);
  return std::clamp(others / (passed.count() * cores), 0.0, 1.0);
}

} // namespace troupe::cli::bench
