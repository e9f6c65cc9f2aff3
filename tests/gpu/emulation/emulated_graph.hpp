#pragma once
#include <functional>
#include <vector>

#include "cuda_runtime.h"

/// A step of a stream that was recorded.
struct emulated_node {
  std::function<void()> run;
  troupe::cuda_emulation::launch_shape of;

  /// The same kernel, in a launch of the same size.
  bool is_like(const emulated_node& other) const;
};
struct emulated_graph {
  std::vector<emulated_node> steps;
};
struct emulated_graph_exec {
  std::vector<emulated_node> steps;
};
