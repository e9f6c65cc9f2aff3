#include "cli/devices.hpp"

#include <iostream>

#include <nlohmann/json.hpp>
#include <unistd.h>

#include "cli/exit_codes.hpp"
#include "cli/table.hpp"
#include "cli/terminal.hpp"
#include "config/units.hpp"
#include "gpu/cpu_nodes.hpp"
#include "gpu/self_check.hpp"

namespace troupe::cli {
namespace {

struct checked_device {
  std::string id, name;
  uint64_t memory_bytes = 0;
  std::string problem; ///< empty = it computes right
};

checked_device check(std::string id, std::string name, uint64_t memory_bytes,
                     const caf::expected<std::unique_ptr<gpu::device>>& opened) {
  const auto why = opened ? gpu::self_check(**opened) : opened.error();
  return {std::move(id), std::move(name), memory_bytes, why ? describe(why) : std::string{}};
}

/// Part of the device "cpu": for who wants a worker on each NUMA node.
checked_device check_node(const gpu::cpu_node& node) {
  caf::expected<std::unique_ptr<gpu::device>> device{gpu::make_cpu_device({}, node)};
  const auto name = (*device)->name();
  return check("cpu:" + std::to_string(node.id), name, node.memory_bytes, device);
}

std::string table(const std::vector<checked_device>& devices) {
  std::vector<std::vector<std::string>> rows{{"DEVICE", "NAME", "MEMORY", "CHECK"}};
  for (const auto& one : devices)
    rows.push_back({one.id, one.name, config::format_size_rounded(one.memory_bytes),
                    one.problem.empty() ? "ok" : one.problem});
  return render_table(rows, colours_wanted(STDOUT_FILENO));
}

std::string list(const std::vector<checked_device>& devices) {
  auto out = nlohmann::ordered_json::array();
  for (const auto& one : devices) {
    out.push_back({{"id", one.id}, {"name", one.name}, {"memory_bytes", one.memory_bytes}});
    if (!one.problem.empty())
      out.back()["problem"] = one.problem;
  }
  return out.dump(2) + "\n";
}

} // namespace

int show_devices(bool json) {
  std::vector<checked_device> devices;
  const auto found = gpu::cuda_devices();
  if (found)
    for (const auto& one : *found)
      devices.push_back(check("cuda:" + std::to_string(one.ordinal), one.name, one.memory_bytes,
                              gpu::make_cuda_device(one.ordinal)));
  caf::expected<std::unique_ptr<gpu::device>> cpu{gpu::make_cpu_device()};
  const auto cpu_name = (*cpu)->name();
  const auto cpu_memory = (*cpu)->memory_bytes();
  devices.push_back(check("cpu", cpu_name, cpu_memory, cpu));
  if (const auto nodes = gpu::cpu_nodes(); nodes.size() > 1)
    for (const auto& node : nodes)
      devices.push_back(check_node(node));
  std::cout << (json ? list(devices) : table(devices)) << std::flush;
  if (!found)
    std::cerr << "no CUDA device: " << describe(found.error()) << "\n";
  for (const auto& one : devices)
    if (!one.problem.empty())
      return failed;
  return ok;
}

} // namespace troupe::cli
