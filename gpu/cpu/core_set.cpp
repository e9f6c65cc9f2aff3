#include "gpu/cpu/core_set.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>

namespace troupe::gpu::cpu {
namespace {

/// More than any kernel counts; a guard against a damaged list.
constexpr unsigned cores_max = 1u << 16;

bool parse_number(std::string_view text, unsigned& out) {
  const auto* end = text.data() + text.size();
  return std::from_chars(text.data(), end, out).ptr == end && !text.empty() && out < cores_max;
}

size_t bytes_of(const std::vector<cpu_set_t>& mask) { return mask.size() * sizeof(cpu_set_t); }

} // namespace

std::vector<unsigned> parse_core_list(std::string_view text) {
  std::vector<unsigned> out;
  while (!text.empty()) {
    const auto part = text.substr(0, text.find(','));
    text.remove_prefix(std::min(part.size() + 1, text.size()));
    const auto dash = part.find('-');
    unsigned first = 0, last = 0;
    if (!parse_number(part.substr(0, dash), first))
      continue;
    if (dash == std::string_view::npos)
      last = first;
    else if (!parse_number(part.substr(dash + 1), last))
      continue;
    for (auto core = first; core <= last; ++core)
      out.push_back(core);
  }
  std::ranges::sort(out);
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

core_set::core_set(const std::vector<unsigned>& cores) {
  const auto highest = cores.empty() ? 0 : *std::ranges::max_element(cores);
  std::vector<cpu_set_t> mask(highest / CPU_SETSIZE + 1);
  for (const auto core : cores)
    CPU_SET_S(core, bytes_of(mask), mask.data());
  mask_ = std::make_shared<const std::vector<cpu_set_t>>(std::move(mask));
}

core_set core_set::of_this_thread() {
  core_set out;
  for (size_t masks = 1; masks <= cores_max / CPU_SETSIZE; masks *= 2) {
    std::vector<cpu_set_t> mask(masks);
    if (sched_getaffinity(0, bytes_of(mask), mask.data()) == 0) {
      out.mask_ = std::make_shared<const std::vector<cpu_set_t>>(std::move(mask));
      break;
    }
    if (errno != EINVAL) // it means that the kernel counts more cores than the mask has bits
      break;
  }
  return out;
}

bool core_set::has(unsigned core) const {
  return mask_ != nullptr && CPU_ISSET_S(core, bytes_of(*mask_), mask_->data());
}

unsigned core_set::size() const {
  return mask_ == nullptr ? 0 : static_cast<unsigned>(CPU_COUNT_S(bytes_of(*mask_), mask_->data()));
}

void core_set::hold_this_thread() const {
  // Kept alive here, so that a set made later cannot have the same address.
  thread_local std::shared_ptr<const std::vector<cpu_set_t>> holding;
  if (mask_ == nullptr || mask_ == holding)
    return;
  sched_setaffinity(0, bytes_of(*mask_), mask_->data());
  holding = mask_;
}

} // namespace troupe::gpu::cpu
