#include <cmath>
#include <cstdio>

#include "cli/bench/result.hpp"
#include "cli/table.hpp"
#include "config/units.hpp"

namespace troupe::cli::bench {
namespace {

/// From this share on a run was disturbed so much that its row says so.
constexpr double disturbed_from = 0.05;

/// Three digits that matter: "1270", "31.2", "0.0480".
std::string number(double value) {
  if (!(std::abs(value) > 0))
    return "0";
  const int before = static_cast<int>(std::floor(std::log10(std::abs(value)))) + 1;
  char text[40];
  std::snprintf(text, sizeof text, "%.*f", std::max(0, 3 - before), value);
  return text;
}

std::string percent(double share) { return share > 0 ? number(share * 100) + " %" : "-"; }

std::string per_second(double amount, double seconds) {
  return amount > 0 && seconds > 0 ? number(amount / seconds / 1e9) : "-";
}

using rows = std::vector<std::vector<std::string>>;

std::string ceilings_table(const report& all, bool colour) {
  rows out{{"CEILING", "BEST SEEN", "HOW"}};
  for (const auto& one : all.reads)
    out.push_back({"read, set of " + config::format_size_rounded(one.set_bytes),
                   number(one.bytes_per_second / 1e9) + " GB/s", one.pattern});
  for (const auto& one : all.computes)
    out.push_back({one.name, number(one.ops_per_second / 1e9) + " Gop/s", "registers only"});
  return out.size() > 1 ? "\n" + render_table(out, colour) : "";
}

std::string what_of(const result& one) {
  if (one.measure == "prefill")
    return "prefill " + std::to_string(one.tokens);
  if (one.measure == "decode")
    return "decode, batch " + std::to_string(one.batch) + ", context " + std::to_string(one.tokens);
  return one.measure + ", " + one.variant;
}

std::string results_table(const report& all, bool colour) {
  rows out{{"MODEL", "DTYPE", "WHAT", "MEDIAN", "MIN..MAX", "GB/S", "OF READ", "GFLOP/S", "OF PEAK",
            "OTHERS"}};
  for (const auto& one : all.results) {
    const auto reached = shares_of(all, one);
    out.push_back({one.model, one.dtype, what_of(one), number(one.value.median) + " " + one.unit,
                   number(one.value.least) + ".." + number(one.value.most),
                   per_second(one.bytes, one.seconds), percent(reached.read),
                   per_second(one.flops, one.seconds), percent(reached.compute),
                   one.others >= disturbed_from ? number(one.others * 100) + " %" : ""});
  }
  return out.size() > 1 ? "\n" + render_table(out, colour) : "";
}

std::string profile_table(const result& one, bool colour) {
  rows out{{"OP", "CALLS/STEP", "MS/STEP", "SHARE", "GB/S", "GFLOP/S"}};
  const auto steps = static_cast<double>(std::max<uint64_t>(one.profile_steps, 1));
  double ops = 0;
  for (const auto& op : one.profile) {
    const double seconds = std::chrono::duration<double>(op.time).count();
    ops += seconds;
    out.push_back({op.name, number(static_cast<double>(op.calls) / steps),
                   number(seconds * 1000 / steps), percent(seconds / one.profile_seconds),
                   per_second(op.bytes, seconds), per_second(op.flops, seconds)});
  }
  const double rest = std::max(0.0, one.profile_seconds - ops);
  out.push_back({"between the ops", "", number(rest * 1000 / steps),
                 percent(rest / one.profile_seconds), "", ""});
  return "\n" + one.model + " " + one.dtype + ", " + what_of(one) + ", " +
         number(one.profile_seconds * 1000 / steps) + " ms/step\n" + render_table(out, colour);
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
      out += profile_table(one, colour);
    disturbed = disturbed || one.others >= disturbed_from;
  }
  if (disturbed)
    out += "\nOTHERS: share of the machine that other processes used meanwhile; such figures say "
           "little.\n";
  return out;
}

} // namespace troupe::cli::bench
