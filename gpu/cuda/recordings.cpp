#include "gpu/cuda/recordings.hpp"

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

namespace troupe::gpu::cuda {

namespace {

/// FNV-1a over words (Fowler, Noll and Vo).
class word_hash {
public:
  template <class... T>
  explicit word_hash(T... words) {
    ((value_ = (value_ ^ static_cast<uint64_t>(words)) * 0x100000001b3u), ...);
  }
  uint64_t value() const { return value_; }

private:
  uint64_t value_ = 0xcbf29ce484222325u;
};

uint64_t shape_of(cudaGraphNode_t node) {
  cudaGraphNodeType type{};
  cudaKernelNodeParams launch{};
  if (cudaGraphNodeGetType(node, &type) == cudaSuccess && type == cudaGraphNodeTypeKernel &&
      cudaGraphKernelNodeGetParams(node, &launch) == cudaSuccess) {
    const auto &grid = launch.gridDim, &block = launch.blockDim;
    return word_hash{reinterpret_cast<uintptr_t>(launch.func),
                     grid.x,
                     grid.y,
                     grid.z,
                     block.x,
                     block.y,
                     block.z,
                     launch.sharedMemBytes}
        .value();
  }
  cudaGetLastError(); // kernels of libraries need not say what they are
  return word_hash{static_cast<unsigned>(type)}.value();
}

/// Equal for graphs of the same kernels in launches of the same sizes, whatever their arguments. A
/// sum, for nodes are listed in any order; whether one graph can become the other, CUDA says.
uint64_t shape_of(cudaGraph_t steps) {
  size_t count = 0;
  if (cudaGraphGetNodes(steps, nullptr, &count) != cudaSuccess)
    count = 0;
  std::vector<cudaGraphNode_t> nodes(count);
  if (count > 0 && cudaGraphGetNodes(steps, nodes.data(), &count) != cudaSuccess)
    nodes.clear();
  uint64_t out = nodes.size();
  for (auto* const node : nodes)
    out += shape_of(node);
  return out;
}

} // namespace

void recordings::free(entry& one) noexcept {
  if (one.ready != nullptr) // one that is under way ends first
    cudaGraphExecDestroy(one.ready);
}

/// Forgets a recording, but for what is executable of it.
void recordings::retire(place one) noexcept {
  if (one->ready == nullptr)
    return void(entries_.erase(one));
  spares_.splice(spares_.begin(), entries_, one);
  if (spares_.size() > spares_most) {
    free(spares_.back());
    spares_.pop_back();
  }
}

recordings::entry* recordings::find(const recording_key& key) {
  const auto at = std::ranges::find(entries_, key, &entry::key);
  if (at == entries_.end())
    return nullptr;
  entries_.splice(entries_.begin(), entries_, at);
  return &entries_.front();
}

bool recordings::replay(const recording_key& key, cudaStream_t stream) {
  auto* found = find(key);
  if (found == nullptr || found->ready == nullptr)
    return false;
  if (cudaGraphLaunch(found->ready, stream) == cudaSuccess)
    return true;
  // Nothing of it ran. If the device is lost, the ops that are called instead will say so.
  cudaGetLastError();
  free(*found);
  found->ready = nullptr;
  found->has_failed = true;
  return false;
}

bool recordings::begin(const recording_key& key, cudaStream_t stream) {
  auto* found = find(key);
  if (found == nullptr) {
    if (entries_.size() >= most)
      retire(std::prev(entries_.end()));
    entries_.push_front({.key = key});
    return false;
  }
  if (found->has_failed)
    return false;
  // Other threads load weights meanwhile: only this one's calls are watched.
  if (cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) != cudaSuccess) {
    cudaGetLastError();
    found->has_failed = true;
    return false;
  }
  under_way_ = found;
  is_spoilt_ = false;
  return true;
}

/// A spare one of that shape with the arguments of `steps`, or null.
cudaGraphExec_t recordings::adapt_spare(uint64_t shape, cudaGraph_t steps) {
  const auto at = std::ranges::find(spares_, shape, &entry::shape);
  if (at == spares_.end())
    return nullptr;
  auto spare = *at;
  spares_.erase(at);
  cudaGraphExecUpdateResultInfo why{};
  if (cudaGraphExecUpdate(spare.ready, steps, &why) == cudaSuccess)
    return spare.ready;
  cudaGetLastError(); // whatever the reason, the next one would be refused for it, too
  free(spare);
  return nullptr;
}

void recordings::make_ready(entry& to, cudaGraph_t steps) {
  to.shape = shape_of(steps);
  to.ready = adapt_spare(to.shape, steps);
  if (to.ready == nullptr && cudaGraphInstantiate(&to.ready, steps, 0) != cudaSuccess)
    to.ready = nullptr;
}

bool recordings::end(cudaStream_t stream) {
  auto& made = *std::exchange(under_way_, nullptr);
  cudaGraph_t steps = nullptr;
  if (cudaStreamEndCapture(stream, &steps) == cudaSuccess && !is_spoilt_)
    make_ready(made, steps);
  if (steps != nullptr)
    cudaGraphDestroy(steps);
  if (made.ready == nullptr) {
    cudaGetLastError();
    made.has_failed = true;
    return false;
  }
  return replay(recording_key{made.key}, stream);
}

void recordings::forget(const void* owner) noexcept {
  for (auto at = entries_.end(); at != entries_.begin();) { // those used last are kept longest
    const auto one = std::prev(at);
    if (one->key.owner == owner)
      retire(one);
    else
      at = one;
  }
}

void recordings::forget_all() noexcept {
  while (!entries_.empty())
    retire(std::prev(entries_.end()));
}

void recordings::clear() noexcept {
  forget_all();
  for (auto& one : spares_)
    free(one);
  spares_.clear();
}

} // namespace troupe::gpu::cuda
