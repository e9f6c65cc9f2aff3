#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "gpu/device.hpp"

/// What the machine itself can do, found by programs that do nothing else. Every probe tries many
/// ways and keeps the best that it has ever seen, so that a figure above its ceiling means that the
/// bytes or operations were counted wrong, or that a cache helped, and not that the probe was slow.
namespace troupe::cli::bench {

struct read_ceiling {
  uint64_t set_bytes = 0; ///< size of the memory that was read over and over
  double bytes_per_second = 0;
  std::string pattern; ///< the way that was fastest
};

/// How fast all threads together read memory.
class read_probe {
public:
  /// `device` runs the pattern of the kernels; both must outlive the probe.
  read_probe(unsigned threads, gpu::device& device) : threads_{threads}, device_{device} {}

  /// Reads `set_bytes` (rounded and kept within 64 MiB to 1 GiB and a quarter of the free memory)
  /// in every pattern: 1 to 32 rows side by side, threads in halves of their own or in turns, the
  /// widest loads that the processor has, plain and huge pages, and the device's product of one row
  /// with a matrix. Takes a second or two.
  void measure(uint64_t set_bytes);
  /// The best for sets of that size so far; null before the first `measure` of it.
  const read_ceiling* best(uint64_t set_bytes) const;
  std::vector<read_ceiling> all() const;

private:
  void note(uint64_t set, double bytes_per_second, const std::string& pattern);
  void measure_mapping(uint64_t set, bool huge);

  unsigned threads_;
  gpu::device& device_;
  std::map<uint64_t, read_ceiling> best_; ///< by rounded size
};

struct compute_ceiling {
  std::string name;          ///< what of, and how: "f32 fma", "bf16 dot", "int8 tiles"
  double ops_per_second = 0; ///< of all threads; a product and a sum count as two
};

/// Multiplies registers on `threads` threads at once, one instruction after the other of those that
/// the processor has. A twentieth of a second each.
std::vector<compute_ceiling> measure_compute(unsigned threads);

} // namespace troupe::cli::bench
