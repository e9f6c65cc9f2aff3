// Memory of several devices, and copies between them.
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <set>
#include <utility>

#include "emulated_stream.hpp"

using namespace troupe::cuda_emulation;

struct emulated_pool {
  int device = 0;
};

namespace {

struct allocation {
  size_t size = 0;
  int device = 0;
};

std::mutex memory_mutex; // devices are used by several threads
std::map<const std::byte*, allocation> allocations;
std::map<int, emulated_pool> pools;
std::set<std::pair<int, int>> rights; ///< of a pool's device and who may read there
bool peers_can = true;
peer_counts counted_peers;
int devices = 1;
int capability[] = {8, 0};
thread_local int current = 0;

const std::byte* bytes_at(const void* data) { return static_cast<const std::byte*>(data); }

bool is_on(int device, const void* data, size_t size) {
  auto at = allocations.upper_bound(bytes_at(data));
  if (at == allocations.begin())
    return false;
  --at;
  return at->second.device == device && bytes_at(data) + size <= at->first + at->second.size;
}

} // namespace

namespace troupe::cuda_emulation {

void set_device_count(int count) { devices = count; }
void set_capability(int major, int minor) {
  capability[0] = major;
  capability[1] = minor;
}
int current_device() { return current; }
bool is_current(cudaStream_t stream) { return stream == nullptr || stream->device == current; }
void set_peer_access(bool can) {
  const std::lock_guard guard{memory_mutex};
  peers_can = can;
  rights.clear();
}
peer_counts peer_copies() {
  const std::lock_guard guard{memory_mutex};
  return counted_peers;
}

} // namespace troupe::cuda_emulation

cudaError_t cudaGetDeviceCount(int* count) {
  *count = devices;
  return devices > 0 ? cudaSuccess : cudaErrorNoDevice;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* out, int device) {
  if (device < 0 || device >= devices)
    return cudaErrorInvalidDevice;
  std::snprintf(out->name, sizeof out->name, "emulated");
  out->totalGlobalMem = size_t{1} << 30;
  out->major = capability[0];
  out->minor = capability[1];
  out->multiProcessorCount = 2;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= devices)
    return cudaErrorInvalidDevice;
  current = device;
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *free = *total = size_t{1} << 30;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* out, int device) {
  const std::lock_guard guard{memory_mutex};
  *out = &(pools[device] = {device});
  return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }
cudaError_t cudaMemPoolSetAccess(cudaMemPool_t pool, const cudaMemAccessDesc* to, size_t count) {
  const std::lock_guard guard{memory_mutex};
  if (!peers_can || to->location.type != cudaMemLocationTypeDevice)
    return cudaErrorInvalidDevice;
  for (size_t i = 0; i < count; ++i)
    rights.emplace(pool->device, to[i].location.id);
  return cudaSuccess;
}
cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int peer) {
  const std::lock_guard guard{memory_mutex};
  *can = peers_can && device != peer ? 1 : 0;
  return cudaSuccess;
}
cudaError_t cudaMallocAsync(void** out, size_t size, cudaStream_t stream) {
  if (is_capturing(stream)) {
    stream->is_invalid = true;
    return cudaErrorStreamCaptureUnsupported;
  }
  if (const auto failed = take_failure(); failed != cudaSuccess)
    return failed;
  *out = std::malloc(size);
  if (*out == nullptr)
    return cudaErrorMemoryAllocation;
  const std::lock_guard guard{memory_mutex};
  allocations[bytes_at(*out)] = {size, current};
  return cudaSuccess;
}
cudaError_t cudaFreeAsync(void* data, cudaStream_t stream) {
  settle(stream);
  {
    const std::lock_guard guard{memory_mutex};
    const auto at = allocations.find(bytes_at(data));
    if (at != allocations.end()) {
      if (is_awaited(at->first, at->second.size)) {
        std::fprintf(stderr, "emulated CUDA: memory goes that a device has yet to read\n");
        std::abort();
      }
      allocations.erase(at);
    }
  }
  std::free(data);
  return cudaSuccess;
}
cudaError_t cudaMemcpyPeerAsync(void* to, int to_device, const void* from, int from_device,
                                size_t size, cudaStream_t stream) {
  if (const auto failed = take_failure(); failed != cudaSuccess)
    return failed;
  {
    const std::lock_guard guard{memory_mutex};
    if (!is_on(to_device, to, size) || !is_on(from_device, from, size))
      return cudaErrorInvalidValue;
    const bool is_direct =
        from_device == to_device || rights.contains(std::pair{from_device, to_device});
    (is_direct ? counted_peers.direct_bytes : counted_peers.staged_bytes) += size;
  }
  copy_later(*stream->copies, to, from, size);
  return cudaSuccess;
}
