#include <algorithm>
#include <cstring>
#include <limits>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "gpu/cuda/host_pinner.hpp"
#include "gpu/cuda/peer_reader.hpp"
#include "gpu/cuda/pinned_ring.hpp"
#include "gpu/cuda/recordings.hpp"
#include "gpu/cuda/scratch_memory.hpp"
#include "gpu/cuda/staged_upload.hpp"
#include "gpu/cuda/status.hpp"
#include "gpu/cuda/wide_products.hpp"
#include "gpu/device.hpp"
#include "gpu/errors.hpp"
#include "gpu/kernels/attention.cuh"
#include "gpu/kernels/choose.cuh"
#include "gpu/kernels/elementwise.cuh"
#include "gpu/kernels/kv_write.cuh"
#include "gpu/kernels/linear.cuh"
#include "gpu/kernels/quantize.cuh"
#include "gpu/kernels/rms_norm.cuh"

namespace troupe::gpu {
namespace {

/// Copies up to this size go through pinned memory; larger ones are weights.
constexpr size_t small_copy_max = 1 << 20;
constexpr size_t ring_bytes = 8 << 20;
/// What comes back in every step is no larger: it goes through pinned memory, too, so that the host
/// waits once for all of it.
constexpr size_t small_result_max = 64 << 10;
/// Larger copies go through lanes of pinned memory: so many at most, of two slots of that size
/// each.
constexpr unsigned lanes_max = 8;
constexpr size_t slot_bytes = 2 << 20;
/// The tensor-core kernels multiply bf16, which is as old as compute capability 8.0.
constexpr int oldest_major = 8;

/// Makes its lanes when they are wanted first: pinned memory takes a while to get. All queues of a
/// device share them, so that a load does not begin with it.
class upload_lanes {
public:
  explicit upload_lanes(int ordinal) : ordinal_{ordinal} {}
  cuda::staged_upload& get() {
    std::call_once(made_, [this] {
      const auto cores = std::max(2u, std::thread::hardware_concurrency());
      lanes_.emplace(ordinal_, std::min(cores / 2, lanes_max), slot_bytes);
    });
    return *lanes_;
  }

private:
  const int ordinal_;
  std::once_flag made_;
  std::optional<cuda::staged_upload> lanes_;
};

/// One CUDA device behind one stream. The first failure sticks: `synchronize` reports it from then
/// on, and nothing more is queued.
class cuda_device final : public device {
public:
  static caf::expected<std::unique_ptr<device>> create(const cuda_device_info& info,
                                                       const device_options& options,
                                                       std::shared_ptr<upload_lanes> lanes,
                                                       size_t ring_size = ring_bytes) {
    std::unique_ptr<cuda_device> out{new cuda_device{info, options, std::move(lanes)}};
    if (auto why = out->start(ring_size))
      return why;
    if (options.wide == products::fastest && options.mode != precision::float32)
      out->open_library(options.warn);
    return std::unique_ptr<device>{std::move(out)};
  }

  ~cuda_device() override {
    if (stream_ == nullptr)
      return;
    bind();
    recordings_.clear();
    scratch_.drop();
    cudaStreamSynchronize(stream_); // the ring may still be read
    cudaStreamDestroy(stream_);
  }

  std::string name() const override {
    return "cuda:" + std::to_string(info_.ordinal) + " (" + info_.name +
           (wide_ ? ", cuBLASLt " + wide_->version() : "") + ")";
  }
  uint64_t memory_bytes() const override { return memory_bytes_; }
  bool reads_host_memory() const override { return false; }
  bool takes(dtype type) const override { return is_blocks(type) || device::takes(type); }
  bool keeps_kv(dtype type) const override { return type == dtype::i8 || device::keeps_kv(type); }

  caf::expected<buffer> allocate(size_t size_bytes) override {
    if (!usable())
      return failure_;
    auto out = try_allocate(size_bytes);
    return out || !scratch_.drop() ? std::move(out) : try_allocate(size_bytes);
  }

  void copy_to_device(void* to, const void* from, size_t size_bytes) override {
    if (size_bytes == 0 || !usable())
      return;
    if (size_bytes > small_copy_max && lanes_->get())
      return note(lanes_->get().copy(to, from, size_bytes, stream_), "copying to the device");
    if (void* pinned = size_bytes <= small_copy_max ? pinned_for(size_bytes) : nullptr) {
      std::memcpy(pinned, from, size_bytes);
      from = pinned;
    }
    note(cudaMemcpyAsync(to, from, size_bytes, cudaMemcpyHostToDevice, stream_),
         "copying to the device");
  }

  void copy_pinned_to_device(void* to, const void* from, size_t size_bytes) override {
    if (size_bytes > 0 && usable())
      note(cudaMemcpyAsync(to, from, size_bytes, cudaMemcpyHostToDevice, stream_),
           "copying to the device");
  }

  void copy_to_host(void* to, const void* from, size_t size_bytes) override {
    if (size_bytes == 0 || !usable())
      return;
    if (void* pinned = size_bytes <= small_result_max ? pinned_for(size_bytes) : nullptr) {
      results_.push_back({to, pinned, size_bytes});
      to = pinned;
    }
    note(cudaMemcpyAsync(to, from, size_bytes, cudaMemcpyDeviceToHost, stream_),
         "copying to the host");
  }

  void copy(void* to, const void* from, size_t size_bytes) override {
    if (size_bytes > 0 && usable())
      note(cudaMemcpyAsync(to, from, size_bytes, cudaMemcpyDeviceToDevice, stream_),
           "copying on the device");
  }

  memory_home home() const override { return {"cuda", info_.ordinal}; }
  void copy_from(const memory_home& other, void* to, const void* from, size_t size_bytes) override {
    if (size_bytes > 0 && usable())
      note(peers_.copy(to, from, other.ordinal, size_bytes, stream_),
           "copying from another device");
  }

  caf::error synchronize() override {
    if (usable())
      wait();
    else
      cudaStreamSynchronize(stream_); // what was queued before the failure
    return failure_;
  }

  std::shared_ptr<memory_pinner> pinner() override {
    return std::make_shared<cuda::host_pinner>(info_.ordinal);
  }

  std::unique_ptr<device> second_queue() override {
    device_options options;
    options.mode = mode_;
    options.memory_bytes = memory_limit_;
    // It lives as long as a load: pinning a large ring would be a good part of that.
    auto out = create(info_, options, lanes_, small_copy_max);
    return out ? std::move(*out) : nullptr;
  }

  void embedding(const embedding_args& args) override {
    if (usable())
      note(kernels::launch_embedding(args, stream_), "embedding");
  }
  void rms_norm(const rms_norm_args& args) override {
    if (usable())
      note(kernels::launch_rms_norm(args, stream_), "rms_norm");
  }
  void linear(const linear_args& args) override { linear_group({&args, 1}); }
  void linear_group(std::span<const linear_args> group) override {
    if (group.empty() || group[0].rows == 0 || !usable())
      return;
    void* scratch = room_for_library(group);
    std::optional<dtype> rounded; // as what x lies there
    for (const auto& one : group) {
      const bool is_taken = scratch != nullptr && wide_->takes(one);
      const auto left = is_taken ? left_by_library(one, scratch, rounded) : one;
      if (left.w.rows > 0) {
        multiply(left);
        rounded.reset(); // which takes the same memory
      }
    }
  }
  void quantize(const quantize_args& args) override {
    if (!usable())
      return;
    if (args.w.type == args.to) // this device has one layout
      copy(args.out, args.w.data,
           bytes_of(args.to, static_cast<uint64_t>(args.w.rows * args.w.cols)));
    else
      note(kernels::launch_quantize(args, stream_), "quantize");
  }
  void rope(const rope_args& args) override {
    if (usable())
      note(kernels::launch_rope(args, stream_), "rope");
  }
  void kv_write(const kv_write_args& args) override {
    if (usable())
      note(kernels::launch_kv_write(args, stream_), "kv_write");
  }
  void attention(const attention_args& args) override {
    if (args.rows == 0 || !usable())
      return;
    if (mode_ == precision::float32 || !kernels::tensor_cores_take(args.cache)) {
      note(kernels::launch_attention_float(args, stream_), "attention");
      return;
    }
    auto plan = kernels::plan_attention(args, info_.processors);
    void* scratch = plan.splits > 1 ? scratch_.take_spare(plan.scratch_bytes) : nullptr;
    if (scratch == nullptr)
      plan.splits = 1;
    note(kernels::launch_attention_tensor(args, plan, scratch, stream_), "attention");
  }
  void gated_activation(const gated_activation_args& args) override {
    if (usable())
      note(kernels::launch_gated_activation(args, stream_), "gated_activation");
  }
  void gather_rows(const gather_rows_args& args) override {
    if (usable())
      note(kernels::launch_gather_rows(args, stream_), "gather_rows");
  }
  bool chooses() const override { return true; }
  void choose(const choose_args& args) override {
    if (args.rows == 0 || !usable())
      return;
    if (void* scratch = scratch_of(kernels::choose_scratch_bytes(args)))
      note(kernels::launch_choose(args, scratch, stream_), "choose");
  }

  uint64_t scratch_bytes(const linear_args& args) const override {
    uint64_t out = mode_ == precision::float32 ? 0 : kernels::linear_scratch_bytes(args);
    // Blocks are widened, but go to the library only with more rows.
    for (const auto type : {dtype::bf16, dtype::q8_0}) {
      auto typed = args;
      typed.w.type = type;
      if (wide_ && wide_->takes(typed))
        out = std::max(out, wide_->scratch_bytes(typed));
    }
    return out;
  }
  uint64_t scratch_bytes(const attention_args& args) const override {
    return mode_ == precision::float32 ? 0
                                       : kernels::attention_scratch_bytes(args, info_.processors);
  }
  uint64_t scratch_bytes(const choose_args& args) const override {
    return kernels::choose_scratch_bytes(args);
  }
  void lend_scratch(void* memory, uint64_t size_bytes) override {
    scratch_.lend(memory, size_bytes);
  }

  bool replay(const recording_key& key) override {
    return usable() && recordings_.replay(key, stream_);
  }
  bool begin_recording(const recording_key& key) override {
    return usable() && recordings_.begin(key, stream_);
  }
  bool end_recording() override { return recordings_.end(stream_); }
  void forget_recordings(const void* owner) noexcept override {
    bind();
    recordings_.forget(owner);
  }

private:
  cuda_device(const cuda_device_info& info, const device_options& options,
              std::shared_ptr<upload_lanes> lanes)
      : info_{info}, mode_{options.mode}, memory_limit_{options.memory_bytes}, lanes_{std::move(
                                                                                   lanes)} {}

  caf::error start(size_t ring_size) {
    const auto started = [&](cudaError_t status) {
      return status == cudaSuccess
                 ? caf::error{}
                 : caf::make_error(errc::device_failed,
                                   cuda::failure_text(status, "starting " + name()));
    };
    size_t free = 0, total = 0;
    cudaMemPool_t pool = nullptr;
    uint64_t keep = std::numeric_limits<uint64_t>::max();
    if (auto why = started(cudaSetDevice(info_.ordinal)))
      return why;
    if (auto why = started(cudaMemGetInfo(&free, &total)))
      return why;
    if (auto why = started(cudaDeviceGetDefaultMemPool(&pool, info_.ordinal)))
      return why;
    // What one model frees stays with the process for the next one: a switch costs no allocation.
    if (auto why = started(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep)))
      return why;
    if (auto why = started(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)))
      return why;
    ring_.allocate(ring_size);
    memory_bytes_ = memory_limit_ == 0 ? free : std::min<uint64_t>(free, memory_limit_);
    return {};
  }

  /// Without the library, the device has its own kernels.
  void open_library(const std::function<void(const std::string&)>& warn) {
    const auto told = [warn, where = name()](const std::string& what) {
      if (warn)
        warn(where + ": " + what);
    };
    std::string why;
    if (auto library = cuda::cublaslt::open(why)) {
      cuda::wide_limits limits;
      limits.f8 = library->multiplies_f8(info_.major, info_.minor);
      wide_.emplace(std::move(library), told, limits);
    } else {
      told("products are asked for to be the fastest, but " + why +
           "; the kernels of `invariant` take all of them");
    }
  }

  /// For those of the products that cuBLASLt may take; null if it gets none.
  void* room_for_library(std::span<const linear_args> group) {
    uint64_t bytes = 0;
    for (const auto& one : group)
      if (wide_ && wide_->takes(one))
        bytes = std::max(bytes, wide_->scratch_bytes(one));
    void* out = bytes > 0 ? scratch_.take_spare(bytes) : nullptr;
    if (bytes > 0 && out == nullptr && !recordings_.is_recording())
      wide_->lacked_memory(bytes);
    return out;
  }

  /// Queues what cuBLASLt takes of a product, and gives the columns that it leaves.
  linear_args left_by_library(const linear_args& args, void* scratch,
                              std::optional<dtype>& rounded) {
    auto status = cudaSuccess;
    const auto done = wide_->queue(args, scratch, stream_, status, rounded);
    note(status, "linear");
    return cuda::columns_from(args, done);
  }

  void multiply(const linear_args& args) {
    if (mode_ == precision::float32 || !kernels::tensor_cores_take(args.w))
      note(kernels::launch_linear_float(args, stream_), "linear");
    else if (void* scratch = scratch_of(kernels::linear_scratch_bytes(args)))
      note(kernels::launch_linear_tensor(args, scratch, stream_), "linear");
  }

  caf::expected<buffer> try_allocate(size_t size_bytes) {
    void* data = nullptr;
    auto status = cudaErrorMemoryAllocation;
    if (size_bytes <= memory_bytes_ - std::min(allocated_bytes_, memory_bytes_))
      status = cudaMallocAsync(&data, std::max<size_t>(size_bytes, 1), stream_);
    if (status != cudaSuccess) {
      cudaGetLastError();
      return caf::make_error(errc::out_of_memory,
                             cuda::failure_text(status, "allocating " + std::to_string(size_bytes) +
                                                            " bytes on " + name()) +
                                 ": " + std::to_string(allocated_bytes_) + " of " +
                                 std::to_string(memory_bytes_) +
                                 " bytes are in use; load a smaller model or lower the KV memory");
    }
    allocated_bytes_ += size_bytes;
    return buffer{this, data, size_bytes};
  }

  void release(void* data, size_t size_bytes) noexcept override {
    allocated_bytes_ -= size_bytes;
    scratch_.memory_was_freed();
    bind();
    cudaFreeAsync(data, stream_);
  }

  /// CUDA's current device belongs to the thread; whoever calls next may be another one.
  void bind() { cudaSetDevice(info_.ordinal); }

  bool usable() {
    if (failure_)
      return false;
    bind();
    return true;
  }

  void note(cudaError_t status, const char* doing) {
    if (recordings_.is_recording()) { // nothing runs: the ops will be called again
      if (status != cudaSuccess)
        recordings_.spoil();
      return;
    }
    if (status != cudaSuccess && !failure_)
      failure_ = caf::make_error(
          errc::device_failed,
          cuda::failure_text(status, std::string{doing} + " on " + name()) +
              "; what the device held is lost, and the worker has to be started anew");
  }

  /// For all that is queued; results are then where they were wanted.
  void wait() {
    note(cudaStreamSynchronize(stream_), "waiting for the device");
    for (const auto& one : results_)
      std::memcpy(one.to, one.pinned, one.size_bytes);
    results_.clear();
    ring_.start_over();
  }

  void* pinned_for(size_t size_bytes) {
    void* out = ring_.take(size_bytes);
    if (out == nullptr && ring_.size_bytes() > 0) {
      wait();
      out = ring_.take(size_bytes);
    }
    return out;
  }

  /// Memory for the op that is queued next; null, with the failure, if there is none.
  void* scratch_of(uint64_t size_bytes) { return scratch_.take(size_bytes, failure_); }

  /// On its way to the host.
  struct result {
    void* to;
    const void* pinned;
    size_t size_bytes;
  };

  const cuda_device_info info_;
  const precision mode_;
  const uint64_t memory_limit_;
  uint64_t memory_bytes_ = 0;
  uint64_t allocated_bytes_ = 0;
  cudaStream_t stream_ = nullptr;
  cuda::pinned_ring ring_;
  std::vector<result> results_;
  const std::shared_ptr<upload_lanes> lanes_;
  cuda::recordings recordings_;
  cuda::peer_reader peers_{info_.ordinal};
  cuda::scratch_memory scratch_{recordings_, [this](size_t size) { return try_allocate(size); }};
  std::optional<cuda::wide_products> wide_; ///< none where the own kernels take all
  caf::error failure_;
};

} // namespace

caf::expected<std::unique_ptr<device>> make_cuda_device(int ordinal,
                                                        const device_options& options) {
  const auto found = cuda_devices();
  if (!found)
    return found.error();
  if (ordinal < 0 || static_cast<size_t>(ordinal) >= found->size())
    return caf::make_error(errc::unavailable, "there is no device cuda:" + std::to_string(ordinal) +
                                                  "; this machine has " +
                                                  std::to_string(found->size()) +
                                                  ", counted from cuda:0");
  const auto& info = (*found)[static_cast<size_t>(ordinal)];
  if (info.major < oldest_major)
    return caf::make_error(
        errc::unavailable,
        "cuda:" + std::to_string(ordinal) + " (" + info.name + ") has compute capability " +
            std::to_string(info.major) + "." + std::to_string(info.minor) +
            ", but 8.0 is the oldest that the kernels run on; use the device cpu");
  return cuda_device::create(info, options, std::make_shared<upload_lanes>(ordinal));
}

} // namespace troupe::gpu
