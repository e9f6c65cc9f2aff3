#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "base/memory_pinner.hpp"
#include "gpu/memory_home.hpp"
#include "gpu/ops.hpp"

namespace troupe::gpu {

class device;
struct choose_args; // gpu/choose.hpp

/// What tells one recorded run of ops from another: whose they are, and all that decides which ops
/// they are, with which sizes and pointers.
struct recording_key {
  const void* owner = nullptr;
  const void* memory = nullptr;
  int64_t rows = 0;
  int64_t logit_rows = 0;
  int64_t table_stride = 0;
  bool operator==(const recording_key&) const = default;
};

/// Device memory that is freed with the handle. Moves, never copies. The device must outlive it.
class buffer {
public:
  buffer() = default;
  buffer(device* owner, void* data, size_t size_bytes)
      : owner_{owner}, data_{data}, size_bytes_{size_bytes} {}
  buffer(buffer&& other) noexcept { swap(other); }
  buffer& operator=(buffer&& other) noexcept {
    buffer{std::move(other)}.swap(*this);
    return *this;
  }
  ~buffer();
  void* data() const { return data_; }
  size_t size_bytes() const { return size_bytes_; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  explicit operator bool() const { return data_ != nullptr; }

private:
  void swap(buffer& other) noexcept;
  device* owner_ = nullptr;
  void* data_ = nullptr;
  size_t size_bytes_ = 0;
};

/// How exactly a backend may round.
enum class precision : uint8_t {
  /// The fastest path that is normal for the weight's dtype: bf16 products for bf16 weights, and
  /// on the CPU, for weights in blocks, products of bytes, the activations rounded to 8 bits by
  /// blocks of 32.
  automatic,
  /// Every product and sum in float.
  float32,
};

/// Who multiplies many rows on a CUDA device.
enum class products : uint8_t {
  /// Kernels of our own: a row's bits depend on that row alone, as `ops.hpp` promises.
  invariant,
  /// NVIDIA's cuBLASLt, where it is there: more of what the GPU can do, for the last bits of
  /// `linear`, and for more of them where weights are 8-bit floats and the device multiplies such:
  /// x is then rounded to 8-bit floats, too. Few rows stay as they are, and so does everything
  /// under `precision::float32`.
  fastest,
};

struct device_options {
  /// Worker threads of the CPU backend, the calling thread included; 0 = one per core.
  unsigned threads = 0;
  precision mode = precision::automatic;
  /// Forces a path below what the machine has ("reference", or one of `cpu_isas`); empty = best.
  /// One that the machine lacks means the best below it.
  std::string isa;
  /// Most that `allocate` hands out in all; 0 = what the machine, or its control group, has.
  uint64_t memory_bytes = 0;
  products wide = products::invariant;
  /// Is told what the device has to do without, once each, by whoever makes or uses it; null =
  /// nobody is.
  std::function<void(const std::string&)> warn{};
};

/// One device. Ops are queued in call order and may run asynchronously; `synchronize` waits.
/// Used by one thread at a time. Ops fail only through `synchronize` (a sticky device error).
class device {
public:
  virtual ~device() = default;

  /// For people: "cpu (avx512_bf16, 2 threads)".
  virtual std::string name() const = 0;
  /// Bytes that the device could give in all.
  virtual uint64_t memory_bytes() const = 0;
  /// True when weights in host memory (a mapped checkpoint) can be used in place.
  virtual bool reads_host_memory() const = 0;
  /// Whether `linear`, `embedding` and `quantize` take weights of that type: f32, f16, bf16, q8_0
  /// and q4_0 everywhere.
  virtual bool takes(dtype type) const {
    return type == dtype::f32 || type == dtype::f16 || type == dtype::bf16 || type == dtype::q8_0 ||
           type == dtype::q4_0;
  }
  /// The layout in which `linear` reads weights of a type fastest. It takes `rows` too.
  virtual weight_layout best_layout(dtype) const { return weight_layout::rows; }
  /// Whether a KV cache may be of that type; f32 and bf16 everywhere.
  virtual bool keeps_kv(dtype type) const { return type == dtype::f32 || type == dtype::bf16; }

  /// At least `size_bytes`, aligned to 64 bytes; contents undefined. Fails with
  /// errc::out_of_memory.
  virtual caf::expected<buffer> allocate(size_t size_bytes) = 0;
  /// `from` has been read when it returns; `to` is written in the order of the queue.
  virtual void copy_to_device(void* to, const void* from, size_t size_bytes) = 0;
  /// The same where `pinner` has pinned `from`, all of it by one call: the device reads it by
  /// itself, so it has to stay as it is until `synchronize`.
  virtual void copy_pinned_to_device(void* to, const void* from, size_t size_bytes) {
    copy_to_device(to, from, size_bytes);
  }
  virtual void copy_to_host(void* to, const void* from, size_t size_bytes) = 0;
  /// From device memory to device memory; the two do not overlap.
  virtual void copy(void* to, const void* from, size_t size_bytes) = 0;
  /// Which devices' memory `copy_from` takes: those whose home this one's takes from. What lies
  /// there as weights may be used here as it is. Fixed, so any thread may ask.
  virtual memory_home home() const { return {}; }
  /// From the memory of the device at `other`, which may be this one. What is read has to stay as
  /// it is until `synchronize`; that device itself is not used.
  virtual void copy_from(const memory_home& /*other*/, void* to, const void* from,
                         size_t size_bytes) {
    copy(to, from, size_bytes);
  }
  /// After it nothing that was queued is read or written any more, whether or not it fails.
  virtual caf::error synchronize() = 0;

  /// Another queue of this device, for one other thread: ops of the two run at the same time. What
  /// one wrote the other may use after the first was synchronized. Memory that it allocates is not
  /// counted; meant for staging. It may live longer than this. Null if there is none.
  virtual std::unique_ptr<device> second_queue() { return nullptr; }
  /// What pins memory of this process for this device and those beside it; it may live longer than
  /// they. Null where it makes no difference.
  virtual std::shared_ptr<memory_pinner> pinner() { return nullptr; }

  virtual void embedding(const embedding_args& args) = 0;
  virtual void rms_norm(const rms_norm_args& args) = 0;
  virtual void linear(const linear_args& args) = 0;
  /// What `linear` does with each, bit for bit; x, rows, x_stride and w.cols are the same in all.
  virtual void linear_group(std::span<const linear_args> group) {
    for (const auto& one : group)
      linear(one);
  }
  virtual void quantize(const quantize_args& args) = 0;
  virtual void rope(const rope_args& args) = 0;
  virtual void kv_write(const kv_write_args& args) = 0;
  virtual void attention(const attention_args& args) = 0;
  virtual void gated_activation(const gated_activation_args& args) = 0;
  virtual void gather_rows(const gather_rows_args& args) = 0;

  /// Whether `choose` may be called; where not, `engine/sampler` does the same on the host.
  virtual bool chooses() const { return false; }
  virtual void choose(const choose_args&) {}

  /// Memory that ops take while they run, for such a call or one of fewer rows, sequences or
  /// positions; whatever the types of its weight and cache, and pointers need not be set.
  virtual uint64_t scratch_bytes(const linear_args&) const { return 0; }
  virtual uint64_t scratch_bytes(const attention_args&) const { return 0; }
  virtual uint64_t scratch_bytes(const choose_args&) const { return 0; }
  /// Device memory for that, aligned as `allocate` gives it, until other memory is lent; null =
  /// none. For what does not fit there a device allocates more, and keeps it until `allocate` lacks
  /// memory.
  virtual void lend_scratch(void* /*memory*/, uint64_t /*size_bytes*/) {}

  /// Queues the ops that were recorded with this key, at less cost than calling each; false if
  /// there are none. A recording holds pointers and sizes, while what lies in the memory may
  /// change.
  virtual bool replay(const recording_key&) { return false; }
  /// True: the ops called from here on, no copies and no allocations among them, are recorded and
  /// not run until `end_recording`. A key is recorded when it is asked for a second time.
  virtual bool begin_recording(const recording_key&) { return false; }
  /// Runs what was recorded. False: it could not be, and the ops have to be called again.
  virtual bool end_recording() { return false; }
  /// Drops the recordings of an owner, whose memory goes.
  virtual void forget_recordings(const void* /*owner*/) noexcept {}

private:
  friend class buffer;
  virtual void release(void* data, size_t size_bytes) noexcept = 0;
};

/// The plain reference backend: one thread, double accumulators, obviously right.
std::unique_ptr<device> make_reference_device();

/// Instruction sets that the CPU backend can use on this machine, "portable" first, best last.
std::vector<std::string> cpu_isas();

/// The CPU backend. Never fails: falls back to portable code.
std::unique_ptr<device> make_cpu_device(const device_options& options = {});

/// A CUDA device that this process could use.
struct cuda_device_info {
  int ordinal = 0;
  std::string name;
  uint64_t memory_bytes = 0;
  int major = 0, minor = 0; ///< compute capability
  int processors = 1;       ///< multiprocessors
};

/// The CUDA devices of this machine. Fails with errc::unavailable, saying why, where there is none:
/// a build without CUDA, no driver, no device.
caf::expected<std::vector<cuda_device_info>> cuda_devices();

/// Device `ordinal`. `options.threads` and `options.isa` mean nothing to it. Fails with
/// errc::unavailable for a device that is not there or too old, errc::device_failed if it does not
/// start.
caf::expected<std::unique_ptr<device>> make_cuda_device(int ordinal,
                                                        const device_options& options = {});

} // namespace troupe::gpu
