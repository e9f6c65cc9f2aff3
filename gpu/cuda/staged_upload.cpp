#include "gpu/cuda/staged_upload.hpp"

#include <algorithm>
#include <cstring>

namespace troupe::gpu::cuda {

namespace {

/// Runs calls until one fails.
template <class... F>
cudaError_t in_turn(const F&... calls) {
  cudaError_t status = cudaSuccess;
  ((status = status == cudaSuccess ? calls() : status), ...);
  return status;
}

} // namespace

staged_upload::staged_upload(int ordinal, unsigned lanes, size_t slot_bytes)
    : ordinal_{ordinal}, slot_bytes_{slot_bytes} {
  if (cudaSetDevice(ordinal) != cudaSuccess || cudaEventCreate(&ready_) != cudaSuccess)
    return;
  lanes_.resize(lanes);
  for (auto& one : lanes_)
    if (make(one) != cudaSuccess) {
      cudaGetLastError(); // copies then go straight from where they are
      for (auto& made : lanes_)
        free(made);
      lanes_.clear();
      return;
    }
  threads_ = std::make_unique<cpu::thread_pool>(lanes);
}

staged_upload::~staged_upload() {
  cudaSetDevice(ordinal_);
  for (auto& one : lanes_)
    free(one);
  if (ready_ != nullptr)
    cudaEventDestroy(ready_);
}

cudaError_t staged_upload::make(lane& to) const {
  return in_turn([&] { return cudaStreamCreateWithFlags(&to.stream, cudaStreamNonBlocking); },
                 [&] { return cudaEventCreate(&to.done); },
                 [&] { return cudaEventCreate(&to.slots[0].read); },
                 [&] { return cudaEventCreate(&to.slots[1].read); },
                 [&] {
                   void* data = nullptr;
                   const auto status = cudaMallocHost(&data, 2 * slot_bytes_);
                   to.slots[0].data = static_cast<std::byte*>(data);
                   to.slots[1].data = to.slots[0].data + (data != nullptr ? slot_bytes_ : 0);
                   return status;
                 });
}

void staged_upload::free(lane& one) const {
  if (one.slots[0].data != nullptr) {
    cudaStreamSynchronize(one.stream); // its slots may still be read
    cudaFreeHost(one.slots[0].data);
  }
  for (const auto& each : one.slots)
    if (each.read != nullptr)
      cudaEventDestroy(each.read);
  if (one.done != nullptr) {
    cudaEventDestroy(one.done);
    cudaStreamDestroy(one.stream);
  }
  one = {};
}

void staged_upload::take(lane& by, std::byte* to, const std::byte* from, size_t size_bytes) const {
  auto& own = by.slots[by.next];
  by.next = 1 - by.next;
  by.used = true;
  by.failed =
      in_turn([&] { return by.failed; }, [&] { return cudaSetDevice(ordinal_); },
              [&] { return own.queued ? cudaEventSynchronize(own.read) : cudaSuccess; },
              [&] {
                std::memcpy(own.data, from, size_bytes);
                return cudaMemcpyAsync(to, own.data, size_bytes, cudaMemcpyHostToDevice, by.stream);
              },
              [&] { return cudaEventRecord(own.read, by.stream); });
  own.queued = true;
}

cudaError_t staged_upload::copy(void* to, const void* from, size_t size_bytes,
                                cudaStream_t stream) {
  const std::lock_guard guard{mutex_};
  auto status = cudaEventRecord(ready_, stream);
  for (auto& one : lanes_) {
    one.used = false;
    one.failed = cudaSuccess;
    status =
        in_turn([&] { return status; }, [&] { return cudaStreamWaitEvent(one.stream, ready_, 0); });
  }
  if (status != cudaSuccess)
    return status;
  const auto pieces = static_cast<int64_t>((size_bytes + slot_bytes_ - 1) / slot_bytes_);
  threads_->run(pieces, [&](int64_t piece, unsigned thread) {
    const auto at = static_cast<size_t>(piece) * slot_bytes_;
    take(lanes_[thread], static_cast<std::byte*>(to) + at, static_cast<const std::byte*>(from) + at,
         std::min(slot_bytes_, size_bytes - at));
  });
  for (auto& one : lanes_)
    if (one.used)
      status = in_turn([&] { return status; }, [&] { return one.failed; },
                       [&] { return cudaEventRecord(one.done, one.stream); },
                       [&] { return cudaStreamWaitEvent(stream, one.done, 0); });
  return status;
}

} // namespace troupe::gpu::cuda
