#include "emulated_graph.hpp"

#include <tuple>

bool emulated_node::is_like(const emulated_node& other) const {
  const auto extents = [](const troupe::cuda_emulation::launch_shape& x) {
    return std::make_tuple(x.kernel, x.grid.x, x.grid.y, x.grid.z, x.block.x, x.block.y, x.block.z);
  };
  return extents(of) == extents(other.of);
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* out, size_t* count) {
  if (out != nullptr)
    for (size_t i = 0; i < *count; ++i)
      out[i] = &graph->steps.at(i);
  *count = graph->steps.size();
  return cudaSuccess;
}
cudaError_t cudaGraphNodeGetType(cudaGraphNode_t node, cudaGraphNodeType* out) {
  *out = node->of.kernel != nullptr ? cudaGraphNodeTypeKernel : cudaGraphNodeTypeMemcpy;
  return cudaSuccess;
}
cudaError_t cudaGraphKernelNodeGetParams(cudaGraphNode_t node, cudaKernelNodeParams* out) {
  *out = {node->of.kernel, node->of.grid, node->of.block};
  return cudaSuccess;
}
