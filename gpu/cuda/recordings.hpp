#pragma once
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <list>

#include "gpu/device.hpp"

namespace troupe::gpu::cuda {

/// Runs of kernels as CUDA graphs, by key: one launch queues hundreds of kernels at a fraction of
/// what launching each costs the host. A key is recorded when it comes for the second time, for
/// most sizes come once. What cannot be recorded is not tried again and runs as ever.
///
/// To make a graph executable takes much longer than to record it. So what was executable stays
/// when its recording goes, with its model or as its memory moves, for one that launches the same
/// kernels in the same sizes, and is then given new arguments only.
class recordings {
public:
  /// Kept at most, keys that were seen once included; the ones not used for longest go.
  static constexpr size_t most = 64;
  /// Executable graphs kept of recordings that went; those that went first go.
  static constexpr size_t spares_most = 64;

  recordings() = default;
  recordings(const recordings&) = delete;
  recordings& operator=(const recordings&) = delete;
  ~recordings() { clear(); }

  /// Whether there is such a recording and it was queued on `stream`.
  bool replay(const recording_key& key, cudaStream_t stream);
  /// From here on, what is queued on `stream` is recorded and does not run; or false.
  bool begin(const recording_key& key, cudaStream_t stream);
  /// Queues what was recorded; false if that failed.
  bool end(cudaStream_t stream);
  bool is_recording() const { return under_way_ != nullptr; }
  /// Something could not be recorded: `end` will fail.
  void spoil() { is_spoilt_ = true; }
  void forget(const void* owner) noexcept;
  void forget_all() noexcept;
  /// As `forget_all`, and nothing is kept.
  void clear() noexcept;

private:
  struct entry {
    recording_key key;
    cudaGraphExec_t ready = nullptr;
    uint64_t shape = 0; ///< of what is ready
    bool has_failed = false;
  };
  using place = std::list<entry>::iterator;
  entry* find(const recording_key& key);
  void make_ready(entry& to, cudaGraph_t steps);
  cudaGraphExec_t adapt_spare(uint64_t shape, cudaGraph_t steps);
  void retire(place one) noexcept;
  static void free(entry& one) noexcept;

  std::list<entry> entries_; ///< those used last first
  std::list<entry> spares_;  ///< those that went last first; their keys mean nothing
  entry* under_way_ = nullptr;
  bool is_spoilt_ = false;
};

} // namespace troupe::gpu::cuda
