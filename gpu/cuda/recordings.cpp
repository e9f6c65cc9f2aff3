#include "gpu/cuda/recordings.hpp"

#include <algorithm>
#include <utility>

namespace troupe::gpu::cuda {

void recordings::free(entry& one) noexcept {
  if (one.ready != nullptr) // one that is under way ends first
    cudaGraphExecDestroy(one.ready);
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
    if (entries_.size() >= most) {
      free(entries_.back());
      entries_.pop_back();
    }
    entries_.push_front({key, nullptr, false});
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

bool recordings::end(cudaStream_t stream) {
  auto& made = *std::exchange(under_way_, nullptr);
  cudaGraph_t steps = nullptr;
  auto status = cudaStreamEndCapture(stream, &steps);
  if (status == cudaSuccess && !is_spoilt_) {
    status = cudaGraphInstantiate(&made.ready, steps, 0);
    if (status != cudaSuccess)
      made.ready = nullptr;
  }
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
  for (auto at = entries_.begin(); at != entries_.end();) {
    const auto one = at++;
    if (one->key.owner != owner)
      continue;
    free(*one);
    entries_.erase(one);
  }
}

void recordings::clear() noexcept {
  for (auto& one : entries_)
    free(one);
  entries_.clear();
}

} // namespace troupe::gpu::cuda
