#include "actors/devices.hpp"

#include <algorithm>
#include <charconv>

#include "actors/errors.hpp"
#include "actors/log.hpp"
#include "gpu/self_check.hpp"

namespace troupe::actors {
namespace {

constexpr std::string_view cuda_prefix = "cuda:";

std::string cuda_id(int ordinal) { return std::string{cuda_prefix} + std::to_string(ordinal); }

caf::expected<opened_device> open_cuda(int ordinal, const gpu::device_options& options) {
  auto made = gpu::make_cuda_device(ordinal, options);
  if (!made)
    return made.error();
  if (auto why = gpu::self_check(**made))
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
    int ordinal = -1;
    const char* end = name.data() + name.size();
    if (name.starts_with(cuda_prefix) &&
        std::from_chars(name.data() + cuda_prefix.size(), end, ordinal).ptr == end && ordinal >= 0)
      return add_cuda(ordinal);
    return caf::make_error(errc::invalid_options, "there is no kind of device '" + name +
                                                      "': write auto, cpu, cuda or cuda:N");
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
                           "no device to compute on: write auto, cpu, cuda or cuda:N");
  return out;
}

} // namespace troupe::actors
