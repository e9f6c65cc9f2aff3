#include <algorithm>

#include "cli/bench/result.hpp"
#include "cli/profile_table.hpp"
#include "cli/table.hpp"
#include "config/units.hpp"

namespace troupe::cli::bench {
namespace {

/// From this share on a run was disturbed so much that its row says so.
constexpr double disturbed_from = 0.05;

std::string percent(double share) { return share > 0 ? three_digits(share * 100) + " %" : "-"; }

std::string per_second(double amount, double seconds) {
  return amount > 0 && seconds > 0 ? three_digits(amount / seconds / 1e9) : "-";
}

using rows = std::vector<std::vector<std::string>>;

std::string ceilings_table(const report& all, bool colour) {
  rows out{{"CEILING", "BEST SEEN", "HOW"}};
  for (const auto& one : all.reads)
    out.push_back({"read, set of " + config::format_size_rounded(one.set_bytes),
                   three_digits(one.bytes_per_second / 1e9) + " GB/s", one.pattern});
  for (const auto& one : all.computes)
    out.push_back({one.name, three_digits(one.ops_per_second / 1e9) + " Gop/s",
                   all.links.empty() ? "registers only" : ""});
  for (const auto& one : all.links)
    out.push_back({one.name, three_digits(one.per_second / 1e9) + " GB/s", one.how});
  return out.size() > 1 ? "\n" + render_table(out, colour) : "";
}

std::string what_of(const result& one) {
  if (one.measure == "prefill")
    return "prefill " + std::to_string(one.tokens);
  if (one.measure == "decode")
    return "decode, batch " + std::to_string(one.batch) + ", context " + std::to_string(one.tokens);
  if (one.measure == "attention")
    return "attention of a layer, " + std::to_string(one.tokens) + " tokens";
  return one.measure + ", " + one.variant;
}

std::string results_table(const report& all, bool colour) {
  rows out{{"MODEL", "DTYPE", "WHAT", "MEDIAN", "MIN..MAX", "GB/S", "OF READ", "GFLOP/S", "OF PEAK",
            "OTHERS"}};
  for (const auto& one : all.results) {
    const auto reached = shares_of(all, one);
    out.push_back({one.model, one.dtype, what_of(one),
                   three_digits(one.value.median) + " " + one.unit,
                   three_digits(one.value.least) + ".." + three_digits(one.value.most),
                   per_second(one.bytes, one.seconds), percent(reached.read),
                   per_second(one.flops, one.seconds), percent(reached.compute),
                   one.others >= disturbed_from ? three_digits(one.others * 100) + " %" : ""});
  }
  return out.size() > 1 ? "\n" + render_table(out, colour) : "";
}

std::string profile_of(const result& one, bool colour) {
  const auto steps = static_cast<double>(std::max<uint64_t>(one.profile_steps, 1));
  return "\n" + one.model + " " + one.dtype + ", " + what_of(one) + ", " +
         three_digits(one.profile_seconds * 1000 / steps) + " ms/step\n" +
         profile_table(one.profile, one.profile_seconds, one.profile_steps, colour);
}

} // namespace

std::string as_table(const report& all, bool colour) {
  std::string out = "machine: " + all.host.cpu + ", " + std::to_string(all.host.cores) +
                    " cores, " + config::format_size_rounded(all.host.memory_bytes) + " memory, ";
  if (all.host.last_cache_bytes > 0)
    out += config::format_size_rounded(all.host.last_cache_bytes) + " last-level cache, ";
  out += "huge pages " + (all.host.huge_pages.empty() ? "unknown" : all.host.huge_pages) + ", " +
         all.host.system + "\ndevice:  " + all.device + ", troupe " + all.version + "\n";
  out += ceilings_table(all, colour) + results_table(all, colour);
  bool disturbed = false;
  for (const auto& one : all.results) {
    if (!one.profile.empty())
      out += profile_of(one, colour);
    disturbed = disturbed || one.others >= disturbed_from;
  }
  if (disturbed)
    out += "\nOTHERS: share of the machine that other processes used meanwhile; such figures say "
           "little.\n";
  return out;
}

} // namespace troupe::cli::bench
