#include "actors/devices.hpp"

#include <algorithm>
#include <charconv>
#include <optional>

#include "actors/errors.hpp"
#include "actors/log.hpp"
#include "gpu/cpu_nodes.hpp"
#include "gpu/self_check.hpp"

namespace troupe::actors {
namespace {

constexpr std::string_view cpu_prefix = "cpu:", cuda_prefix = "cuda:";
constexpr std::string_view kinds = "auto, cpu, cpu:N, numa, cuda or cuda:N";

std::string cpu_id(int node) { return std::string{cpu_prefix} + std::to_string(node); }
std::string cuda_id(int ordinal) { return std::string{cuda_prefix} + std::to_string(ordinal); }

/// N of a name that is `prefix` and a number.
std::optional<int> number_after(std::string_view prefix, std::string_view name) {
  int number = -1;
  const char* end = name.data() + name.size();
  if (name.starts_with(prefix) &&
      std::from_chars(name.data() + prefix.size(), end, number).ptr == end && number >= 0)
    return number;
  return {};
}

std::string list_of(const std::vector<gpu::cpu_node>& nodes) {
  std::string out;
  for (const auto& node : nodes)
    out += (out.empty() ? "" : ", ") + cpu_id(node.id);
  return out.empty() ? "none that the system tells of: write cpu" : out;
}

caf::expected<opened_device> open_cuda(int ordinal, const gpu::device_options& options) {
  auto made = gpu::make_cuda_device(ordinal, options);
  if (!made)
    return made.error();
  if (auto why = gpu::self_check(**made, options.wide))
    return why;
  return opened_device{cuda_id(ordinal), std::move(*made)};
}

class device_list {
public:
  explicit device_list(const gpu::device_options& options) : options_{options} {}

  caf::error add(const std::string& name) {
    if (name == "auto")
      return add_automatic();
    if (name == "cpu")
      return add_cpu();
    if (name == "cuda")
      return add_all_cuda();
    if (name == "numa")
      return add_all_nodes();
    if (const auto node = number_after(cpu_prefix, name))
      return add_node(*node);
    if (const auto ordinal = number_after(cuda_prefix, name))
      return add_cuda(*ordinal);
    return caf::make_error(errc::invalid_options, "there is no kind of device '" + name +
                                                      "': write " + std::string{kinds});
  }
  std::vector<opened_device> take() { return std::move(opened_); }

private:
  bool has(const std::string& id) const {
    return std::ranges::find(opened_, id, &opened_device::id) != opened_.end();
  }

  caf::error add_cpu() {
    if (!has("cpu"))
      opened_.push_back({"cpu", gpu::make_cpu_device(options_)});
    return {};
  }

  caf::error add_node(int id) {
    const auto nodes = gpu::cpu_nodes();
    const auto at = std::ranges::find(nodes, id, &gpu::cpu_node::id);
    if (at == nodes.end())
      return caf::make_error(errc::invalid_options, "there is no NUMA node for " + cpu_id(id) +
                                                        "; this machine has " + list_of(nodes));
    if (!has(cpu_id(id)))
      opened_.push_back({cpu_id(id), gpu::make_cpu_device(options_, *at)});
    return {};
  }

  caf::error add_all_nodes() {
    const auto nodes = gpu::cpu_nodes();
    for (const auto& node : nodes)
      if (auto why = add_node(node.id))
        return why;
    return nodes.empty() ? add_cpu() : caf::error{}; // a system that does not tell has one node
  }

  caf::error add_cuda(int ordinal) {
    if (has(cuda_id(ordinal)))
      return {};
    auto one = open_cuda(ordinal, options_);
    if (!one)
      return one.error();
    opened_.push_back(std::move(*one));
    return {};
  }

  caf::error add_all_cuda() {
    const auto found = gpu::cuda_devices();
    if (!found)
      return found.error();
    for (const auto& one : *found)
      if (auto why = add_cuda(one.ordinal))
        return why;
    return {};
  }

  caf::error add_automatic() {
    const auto before = opened_.size();
    if (const auto found = gpu::cuda_devices())
      for (const auto& one : *found)
        if (auto why = add_cuda(one.ordinal))
          log_warning("leaving out " + cuda_id(one.ordinal) + ": " + describe(why));
    return opened_.size() == before ? add_cpu() : caf::error{};
  }

  const gpu::device_options& options_;
  std::vector<opened_device> opened_;
};

} // namespace

caf::expected<std::vector<opened_device>> open_devices(const std::vector<std::string>& names,
                                                       const gpu::device_options& options) {
  device_list list{options};
  for (const auto& name : names)
    if (auto why = list.add(name))
      return why;
  auto out = list.take();
  if (out.empty())
    return caf::make_error(errc::invalid_options,
                           "no device to compute on: write " + std::string{kinds});
  const bool whole = std::ranges::find(out, "cpu", &opened_device::id) != out.end();
  const bool part =
      std::ranges::any_of(out, [](const auto& one) { return one.id.starts_with(cpu_prefix); });
  if (whole && part)
    return caf::make_error(errc::invalid_options,
                           "cpu has the cores of every cpu:N: name it, or NUMA nodes, not both");
  return out;
}

} // namespace troupe::actors
