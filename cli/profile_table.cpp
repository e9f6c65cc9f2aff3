#include "cli/profile_table.hpp"

#include <algorithm>
#include <chrono>
#include <vector>

#include "cli/table.hpp"

namespace troupe::cli {
namespace {

std::string rate(double amount, double seconds) {
  return amount > 0 && seconds > 0 ? three_digits(amount / seconds / 1e9) : "-";
}

} // namespace

std::string profile_table(std::span<const gpu::op_cost> costs, double seconds, uint64_t steps,
                          bool colour) {
  double ops = 0;
  for (const auto& op : costs)
    ops += std::chrono::duration<double>(op.time).count();
  const double whole = seconds > 0 ? seconds : ops;
  const auto share = [&](double part) {
    return whole > 0 ? three_digits(part / whole * 100) + " %" : "-";
  };
  const auto each = static_cast<double>(std::max<uint64_t>(steps, 1));
  std::vector<std::vector<std::string>> rows{{"OP", steps > 0 ? "CALLS/STEP" : "CALLS",
                                              steps > 0 ? "MS/STEP" : "MS", "SHARE", "GB/S",
                                              "GFLOP/S"}};
  for (const auto& op : costs) {
    const double took = std::chrono::duration<double>(op.time).count();
    rows.push_back({op.name, three_digits(static_cast<double>(op.calls) / each),
                    three_digits(took * 1000 / each), share(took), rate(op.bytes, took),
                    rate(op.flops, took)});
  }
  if (seconds > 0) {
    const double rest = std::max(0.0, seconds - ops);
    rows.push_back({"between the ops", "", three_digits(rest * 1000 / each), share(rest)});
  }
  return render_table(rows, colour);
}

} // namespace troupe::cli
