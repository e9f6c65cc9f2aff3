#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

/// A CUDA runtime for machines without a GPU: `gpu/kernels` and `gpu/cuda` compile against this
/// header as plain C++, and their kernels run block after block on the calling thread. Each CUDA
/// thread is a fiber, so barriers, shuffles and matrix instructions behave as on a device; the
/// order in which runnable fibers go on is shuffled, so that a missing barrier gives wrong results.
/// What it cannot show: speed, the memory model between blocks, limits of registers and shared
/// memory. Only what the project uses is here.

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(...)
#define TROUPE_EMULATED_CUDA 1

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};
struct uint3 {
  unsigned x = 0, y = 0, z = 0;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(16) float4 {
  float x, y, z, w;
};

template <class T>
constexpr T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
constexpr T max(T a, T b) {
  return a < b ? b : a;
}
using std::isfinite, std::isnan;

/// Of the fiber that runs.
inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorInvalidResourceHandle = 400,
  cudaErrorIllegalAddress = 700,
  cudaErrorHostMemoryAlreadyRegistered = 712,
  cudaErrorHostMemoryNotRegistered = 713,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureInvalidated = 901,
  cudaErrorGraphExecUpdateFailure = 910,
};
using cudaStream_t = struct emulated_stream*;
enum cudaMemcpyKind {
  cudaMemcpyHostToDevice = 1,
  cudaMemcpyDeviceToHost = 2,
  cudaMemcpyDeviceToDevice = 3
};
constexpr unsigned cudaStreamNonBlocking = 1;
constexpr unsigned cudaHostRegisterPortable = 1;
using cudaMemPool_t = struct emulated_pool*;
enum cudaMemPoolAttr { cudaMemPoolAttrReleaseThreshold = 4 };
enum cudaMemLocationType { cudaMemLocationTypeDevice = 1 };
enum cudaMemAccessFlags { cudaMemAccessFlagsProtReadWrite = 3 };
struct cudaMemLocation {
  cudaMemLocationType type;
  int id;
};
struct cudaMemAccessDesc {
  cudaMemLocation location;
  cudaMemAccessFlags flags;
};

struct cudaDeviceProp {
  char name[256];
  size_t totalGlobalMem;
  int major, minor, multiProcessorCount;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
};

namespace troupe::cuda_emulation {

/// Runs `thread` for every thread of every block; aborts if a barrier can never be passed.
void run_grid(dim3 grid, dim3 block, const std::function<void()>& thread);
/// Waits until every living thread of the block, or of the warp, is here.
void sync_block();
void sync_warp();
/// Eight words of a lane of the calling thread's warp, to be filled before a collective.
uint32_t* warp_words(unsigned lane);
/// Waits like `sync_warp`, then gives what all lanes filled in; valid until the next collective.
const uint32_t (*sync_collective())[8];
/// The order of fibers follows from this.
void seed_schedule(uint64_t seed);
/// The next call of the runtime that can fail does so with `error`; a sticky one keeps failing.
void fail_next(cudaError_t error, bool sticky = false);
bool is_failure_pending();
/// The matrix instruction of the same name; its sums are exact and then rounded once.
void mma_bf16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
              uint32_t b1);
/// Devices that `cudaGetDeviceCount` finds; 0 gives cudaErrorNoDevice.
void set_device_count(int count);
/// Compute capability of all devices; 8.0 unless told.
void set_capability(int major, int minor);
int current_device(); ///< of the calling thread
/// Whether the stream's device is the calling thread's, without which nothing can be launched.
bool is_current(cudaStream_t stream);
/// Whether devices can read each other's memory; who was allowed to may no more.
void set_peer_access(bool can);
/// Bytes that were copied between devices, ever: read by the device itself, or through the host.
struct peer_counts {
  uint64_t direct_bytes = 0;
  uint64_t staged_bytes = 0;
};
peer_counts peer_copies();
/// Grids that ran, ever.
size_t grids_run();
/// Takes a pending failure, for a launch.
cudaError_t take_failure();
/// Makes the copies that are queued on the stream; see `delayed_copies.hpp`.
void settle(cudaStream_t stream);
/// Bytes that were copied to devices, by the host memory they came from; of all streams, ever.
struct copy_counts {
  uint64_t allocated_bytes = 0;
  uint64_t registered_bytes = 0;
  uint64_t pageable_bytes = 0;
};
copy_counts copies();
/// Whether what is queued on the stream is recorded instead of run.
bool is_capturing(cudaStream_t stream);
/// What is launched, where that is a kernel.
struct launch_shape {
  void* kernel = nullptr;
  dim3 grid, block;
};
void capture(cudaStream_t stream, std::function<void()> step, const launch_shape& of = {});
/// Of all streams.
struct graph_counts {
  size_t launched = 0;     ///< ever
  size_t instantiated = 0; ///< ever
  size_t updated = 0;      ///< ever
  size_t not_updated = 0;  ///< tried with other kernels, or launches of another size
  size_t alive = 0;        ///< that could be launched
};
graph_counts graphs();
/// Calls of that kind fail, until told otherwise.
enum class graph_call { none, begin, end, instantiate, update, launch };
void refuse(graph_call which);

inline unsigned lane() { return threadIdx.x % 32; }

template <class T>
T exchange(T value, unsigned from) {
  static_assert(sizeof(T) <= 8);
  std::memcpy(warp_words(lane()), &value, sizeof value);
  std::memcpy(&value, sync_collective()[from % 32], sizeof value);
  return value;
}

} // namespace troupe::cuda_emulation

template <class... P, class... A>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(P...),
                               A&&... args) {
  if (const auto failed = troupe::cuda_emulation::take_failure(); failed != cudaSuccess)
    return failed;
  if (!troupe::cuda_emulation::is_current(config->stream))
    return cudaErrorInvalidResourceHandle;
  if (troupe::cuda_emulation::is_capturing(config->stream)) {
    troupe::cuda_emulation::capture(
        config->stream,
        [grid = config->gridDim, block = config->blockDim, kernel,
         held = std::tuple<std::decay_t<P>...>{args...}] {
          troupe::cuda_emulation::run_grid(grid, block, [&] { std::apply(kernel, held); });
        },
        {reinterpret_cast<void*>(kernel), config->gridDim, config->blockDim});
    return cudaSuccess;
  }
  troupe::cuda_emulation::settle(config->stream);
  troupe::cuda_emulation::run_grid(config->gridDim, config->blockDim, [&] { kernel(args...); });
  return cudaSuccess;
}

inline void __syncthreads() { troupe::cuda_emulation::sync_block(); }
inline void __syncwarp(unsigned = 0xffffffffu) { troupe::cuda_emulation::sync_warp(); }
template <class T>
T __shfl_xor_sync(unsigned, T value, unsigned mask) {
  return troupe::cuda_emulation::exchange(value, troupe::cuda_emulation::lane() ^ mask);
}
template <class T>
T __shfl_sync(unsigned, T value, unsigned from) {
  return troupe::cuda_emulation::exchange(value, from);
}
template <class T>
T __shfl_up_sync(unsigned, T value, unsigned by) {
  const auto lane = troupe::cuda_emulation::lane();
  return troupe::cuda_emulation::exchange(value, lane >= by ? lane - by : lane);
}
/// Fibers give way at barriers only, so a plain sum is an atomic one.
template <class T>
T atomicAdd(T* at, T by) {
  const T before = *at;
  *at += by;
  return before;
}
inline float __uint_as_float(unsigned bits) {
  float out;
  std::memcpy(&out, &bits, 4);
  return out;
}

cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* out, int device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaMemGetInfo(size_t* free, size_t* total);
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* out, int device);
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr which, void* value);
cudaError_t cudaMemPoolSetAccess(cudaMemPool_t pool, const cudaMemAccessDesc* to, size_t count);
cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int peer);
cudaError_t cudaMallocAsync(void** out, size_t size, cudaStream_t stream);
cudaError_t cudaFreeAsync(void* data, cudaStream_t stream);
cudaError_t cudaMallocHost(void** out, size_t size);
cudaError_t cudaFreeHost(void* data);
cudaError_t cudaHostRegister(void* data, size_t size, unsigned flags);
cudaError_t cudaHostUnregister(void* data);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind, cudaStream_t);
/// Fails with cudaErrorInvalidValue for memory that is not the devices'.
cudaError_t cudaMemcpyPeerAsync(void* to, int to_device, const void* from, int from_device,
                                size_t size, cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* out, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
using cudaEvent_t = struct emulated_event*;
cudaError_t cudaEventCreate(cudaEvent_t* out);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begun, cudaEvent_t ended);
using cudaGraph_t = struct emulated_graph*;
using cudaGraphExec_t = struct emulated_graph_exec*;
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* out);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* out, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
using cudaGraphNode_t = struct emulated_node*;
enum cudaGraphNodeType { cudaGraphNodeTypeKernel = 0, cudaGraphNodeTypeMemcpy = 1 };
struct cudaKernelNodeParams {
  void* func = nullptr;
  dim3 gridDim, blockDim;
  unsigned sharedMemBytes = 0;
};
struct cudaGraphExecUpdateResultInfo {};
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* out, size_t* count);
cudaError_t cudaGraphNodeGetType(cudaGraphNode_t node, cudaGraphNodeType* out);
cudaError_t cudaGraphKernelNodeGetParams(cudaGraphNode_t node, cudaKernelNodeParams* out);
/// Takes less than CUDA does, for which any kernels in the same number would do: the same ones, in
/// launches of the same sizes.
cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t graph,
                                cudaGraphExecUpdateResultInfo* out);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream);
cudaError_t cudaGetLastError();
const char* cudaGetErrorName(cudaError_t error);
const char* cudaGetErrorString(cudaError_t error);
