#include <algorithm>
#include <functional>
#include <optional>

#include "gpu/cuda/cublaslt.hpp"
#include "gpu/cuda/peer_reader.hpp"
#include "gpu/cuda/status.hpp"
#include "gpu/cuda_probe.hpp"
#include "gpu/device.hpp"
#include "gpu/errors.hpp"
#include "gpu/kernels/probe.cuh"
#include "gpu/kernels/widen.cuh"

namespace troupe::gpu {
namespace {

/// Memory and times of one probe. The first failure stays, and nothing is done after it.
class probe_run {
public:
  /// `neighbour` = another device of the machine, or none.
  probe_run(const cuda_device_info& info, const cuda_probe_sizes& sizes,
            std::optional<int> neighbour)
      : info_{info}, sizes_{sizes}, neighbour_{neighbour} {
    note(cudaSetDevice(info.ordinal));
    note(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    note(cudaEventCreate(&begun_));
    note(cudaEventCreate(&ended_));
  }
  ~probe_run() {
    cudaStreamSynchronize(stream_);
    for (void* memory : device_memory_)
      cudaFreeAsync(memory, stream_);
    if (pinned_ != nullptr)
      cudaFreeHost(pinned_);
    cudaEventDestroy(begun_);
    cudaEventDestroy(ended_);
    cudaStreamDestroy(stream_);
  }
  probe_run(const probe_run&) = delete;
  probe_run& operator=(const probe_run&) = delete;

  caf::expected<cuda_rates> run() {
    measure_memory();
    measure_link();
    measure_neighbour();
    note(cudaSetDevice(info_.ordinal));
    measure_registers();
    measure_products();
    if (failed_ != cudaSuccess)
      return caf::make_error(
          errc::device_failed,
          cuda::failure_text(failed_,
                             "measuring what cuda:" + std::to_string(info_.ordinal) + " can do"));
    return std::move(out_);
  }

private:
  bool note(cudaError_t status) {
    if (failed_ == cudaSuccess)
      failed_ = status;
    return failed_ == cudaSuccess;
  }

  void* device_memory(uint64_t bytes) {
    void* out = nullptr;
    if (failed_ == cudaSuccess && note(cudaMallocAsync(&out, bytes, stream_)))
      device_memory_.push_back(out);
    return out;
  }

  /// Seconds that the device took for what `queue` queues: the least of some times, the first of
  /// which only warms up.
  double best_seconds(const std::function<cudaError_t()>& queue) {
    float best = 0;
    for (int rep = 0; rep <= sizes_.reps && failed_ == cudaSuccess; ++rep) {
      float milliseconds = 0;
      note(cudaEventRecord(begun_, stream_));
      note(queue());
      note(cudaEventRecord(ended_, stream_));
      note(cudaEventSynchronize(ended_));
      note(cudaEventElapsedTime(&milliseconds, begun_, ended_));
      if (rep == 1 || (rep > 1 && milliseconds < best))
        best = milliseconds;
    }
    return static_cast<double>(best) / 1000;
  }

  void add(std::vector<cuda_rate>& to, std::string name, std::string how, double amount,
           const std::function<cudaError_t()>& queue) {
    const double seconds = best_seconds(queue);
    if (failed_ == cudaSuccess && seconds > 0)
      to.push_back({std::move(name), std::move(how), amount / seconds});
  }

  void measure_memory() {
    const uint64_t half = sizes_.memory_bytes / 32 * 16;
    void* from = device_memory(half);
    void* to = device_memory(half);
    auto* sink = static_cast<uint32_t*>(device_memory(64));
    if (failed_ != cudaSuccess)
      return;
    note(kernels::launch_fill_probe(static_cast<uint16_t*>(from), static_cast<int64_t>(half / 2), 1,
                                    stream_));
    add(out_.memory, "copy in memory", "cudaMemcpyAsync, read and written bytes",
        2 * static_cast<double>(half),
        [&] { return cudaMemcpyAsync(to, from, half, cudaMemcpyDeviceToDevice, stream_); });
    add(out_.memory, "read of memory", "16-byte loads", static_cast<double>(half),
        [&] { return kernels::launch_read_probe(from, half, sink, info_.processors, stream_); });
  }

  void measure_link() {
    const auto bytes = sizes_.host_bytes;
    void* there = device_memory(bytes);
    if (failed_ != cudaSuccess)
      return;
    if (cudaMallocHost(&pinned_, bytes) != cudaSuccess) {
      cudaGetLastError();
      pinned_ = nullptr;
      return miss("pinned copies: this machine pins no " + std::to_string(bytes) + " bytes");
    }
    std::fill_n(static_cast<unsigned char*>(pinned_), bytes, static_cast<unsigned char>(0x3c));
    add(out_.link, "pinned host memory to device", "one cudaMemcpyAsync",
        static_cast<double>(bytes),
        [&] { return cudaMemcpyAsync(there, pinned_, bytes, cudaMemcpyHostToDevice, stream_); });
    add(out_.link, "device to pinned host memory", "one cudaMemcpyAsync",
        static_cast<double>(bytes),
        [&] { return cudaMemcpyAsync(pinned_, there, bytes, cudaMemcpyDeviceToHost, stream_); });
  }

  void measure_neighbour() {
    if (!neighbour_ || failed_ != cudaSuccess)
      return;
    const auto bytes = sizes_.host_bytes;
    const auto name = "memory of cuda:" + std::to_string(*neighbour_) + " to device";
    const auto other = make_cuda_device(*neighbour_);
    const auto there = other ? (*other)->allocate(bytes) : other.error();
    const auto why = there ? (*other)->synchronize() : there.error();
    if (why) // somebody else may use all of it
      return miss(name + ": " + describe(why));
    note(cudaSetDevice(info_.ordinal));
    void* here = device_memory(bytes);
    cuda::peer_reader peers{info_.ordinal};
    add(out_.link, name, "one cudaMemcpyPeerAsync", static_cast<double>(bytes),
        [&] { return peers.copy(here, there->data(), *neighbour_, bytes, stream_); });
    cudaStreamSynchronize(stream_); // it has been read, whatever failed
  }

  void measure_registers() {
    auto* sink = static_cast<float*>(device_memory(64));
    const int blocks = info_.processors * 4;
    add(out_.compute, "bf16 products", "mma.sync in registers",
        kernels::product_probe_ops(sizes_.product_steps, blocks),
        [&] { return kernels::launch_product_probe(sizes_.product_steps, blocks, sink, stream_); });
  }

  void measure_products() {
    std::string why;
    const auto library = cuda::cublaslt::open(why);
    if (!library)
      return miss("products of cuBLASLt: " + why);
    const auto side = sizes_.product_side;
    const auto count = static_cast<uint64_t>(side * side);
    cuda::lt_product product;
    auto* x = static_cast<uint16_t*>(device_memory(count * 2));
    auto* w = static_cast<uint16_t*>(device_memory(count * 2));
    product.out = static_cast<float*>(device_memory(count * 4));
    void* workspace = device_memory(cuda::lt_workspace_bytes);
    if (failed_ != cudaSuccess)
      return;
    note(kernels::launch_fill_probe(x, side * side, 1, stream_));
    note(kernels::launch_fill_probe(w, side * side, 2, stream_));
    product.x = x;
    product.w = w;
    product.rows = product.n = product.k = product.x_stride = product.out_stride = side;
    if (add_products("bf16 products", *library, product, workspace) &&
        library->multiplies_f8(info_.major, info_.minor) && side % kernels::f8_scaled == 0)
      measure_f8_products(*library, product, workspace);
  }

  /// With what the product before gave on both sides.
  void measure_f8_products(cuda::cublaslt& library, cuda::lt_product product, void* workspace) {
    const auto count = static_cast<uint64_t>(product.k * product.k);
    void* codes = device_memory(count);
    auto* scales = static_cast<float*>(device_memory(count / kernels::f8_scaled * sizeof(float)));
    if (failed_ != cudaSuccess)
      return;
    linear_args from;
    from.x = product.out;
    from.rows = from.x_stride = from.w.cols = product.k;
    note(kernels::launch_round_f8(from, codes, scales, stream_));
    product.x = product.w = codes;
    product.x_scales = product.w_scales = scales;
    product.type = dtype::f8_e4m3;
    add_products("f8 products", library, product, workspace);
  }

  /// False if the library refuses.
  bool add_products(const char* name, cuda::cublaslt& library, const cuda::lt_product& of,
                    void* workspace) {
    bool queued = true;
    std::string why;
    const auto before = out_.compute.size();
    add(out_.compute, name, "cuBLASLt " + library.version() + ", square of " + std::to_string(of.k),
        2.0 * static_cast<double>(of.k) * static_cast<double>(of.k) * static_cast<double>(of.k),
        [&] {
          queued =
              queued && library.multiply(of, workspace, cuda::lt_workspace_bytes, stream_, why);
          return cudaSuccess;
        });
    if (!queued) {
      out_.compute.resize(before);
      miss(why);
    }
    return queued;
  }

  void miss(const std::string& what) { out_.missing += (out_.missing.empty() ? "" : "; ") + what; }

  const cuda_device_info& info_;
  const cuda_probe_sizes& sizes_;
  const std::optional<int> neighbour_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t begun_ = nullptr, ended_ = nullptr;
  std::vector<void*> device_memory_;
  void* pinned_ = nullptr;
  cudaError_t failed_ = cudaSuccess;
  cuda_rates out_;
};

} // namespace

caf::expected<cuda_rates> measure_cuda(int ordinal, const cuda_probe_sizes& sizes) {
  const auto found = cuda_devices();
  if (!found)
    return found.error();
  if (ordinal < 0 || static_cast<size_t>(ordinal) >= found->size())
    return caf::make_error(errc::unavailable, "there is no device cuda:" + std::to_string(ordinal));
  const auto neighbour = found->size() > 1 ? std::optional{ordinal == 0 ? 1 : 0} : std::nullopt;
  return probe_run{(*found)[static_cast<size_t>(ordinal)], sizes, neighbour}.run();
}

} // namespace troupe::gpu
