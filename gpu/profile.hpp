#pragma once
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gpu/device.hpp"

namespace troupe::gpu {

/// What the calls of one op with one shape cost. Bytes are those that the op has to move at least
/// (weights, keys and values, activations in and out, each once); 0 = not known.
struct op_cost {
  std::string name; ///< "linear [8192, 2048] bf16", "attention"
  uint64_t calls = 0;
  std::chrono::nanoseconds time{};
  double bytes = 0;
  double flops = 0; ///< a product and a sum count as two
};

/// A device that passes everything on to another and notes what each op took. On devices that queue
/// their work every op is waited for, so a profiled step is slower there than a plain one; a CPU
/// step costs two looks at the clock more for each op. Without one in the way nothing is measured
/// and nothing paid.
class profiled_device : public device {
public:
  /// The costs since the last call, dearest first.
  virtual std::vector<op_cost> take_costs() = 0;
};

std::unique_ptr<profiled_device> make_profiled_device(std::unique_ptr<device> inner);

} // namespace troupe::gpu
