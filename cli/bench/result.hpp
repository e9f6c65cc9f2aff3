#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "cli/bench/ceilings.hpp"
#include "cli/bench/machine.hpp"
#include "gpu/cuda_probe.hpp"
#include "gpu/profile.hpp"

namespace troupe::cli::bench {

/// Of some repetitions of one thing.
struct summary {
  double median = 0, least = 0, most = 0;
};
/// `values` must not be empty.
summary summarize(std::vector<double> values);

/// One line of a report.
struct result {
  std::string model, dtype;
  std::string measure; ///< one of `all_measures`
  std::string variant; ///< load: where from; sample: the filter; upload: what else ran
  uint32_t batch = 1;
  uint32_t tokens = 0; ///< prefill: of the prompt; decode: the context in the middle of the run
  std::string unit;    ///< of `value`: "tokens/s", "s", "us", "GB/s"
  summary value;
  uint32_t reps = 0;
  double seconds = 0;     ///< median time of one step, load or draw
  double bytes = 0;       ///< that must be read in that time; 0 = not counted
  double flops = 0;       ///< that must be done in that time; 0 = not counted
  uint64_t set_bytes = 0; ///< weights that are read over and over: which read ceiling counts
  std::string arithmetic; ///< which compute ceilings count: "bf16", "int8", "f32"
  double others = 0;      ///< share of the machine that others used meanwhile
  std::vector<gpu::op_cost> profile;
  double profile_seconds = 0; ///< that the profile covers, ops and what is between them
  uint64_t profile_steps = 0;
};

struct report {
  std::string version;
  machine host;
  std::string device; ///< "cpu (avx512_bf16, 2 threads)"
  unsigned threads = 0;
  std::vector<read_ceiling> reads;
  std::vector<compute_ceiling> computes;
  std::vector<gpu::cuda_rate> links; ///< between the host's memory and a CUDA device
  std::vector<result> results;
};

/// Shares of the ceilings that a result reached; 0 = not known.
struct shares {
  double read = 0, compute = 0;
  /// The larger one: how much of the time the machine could not have saved.
  double best() const { return read > compute ? read : compute; }
};
shares shares_of(const report& in, const result& one);

/// For people; `colour` marks the headings.
std::string as_table(const report& all, bool colour);
/// One object: "machine", "ceilings", "results".
std::string as_json(const report& all);
/// A heading and one line for each result (RFC 4180).
std::string as_csv(const report& all);

} // namespace troupe::cli::bench
