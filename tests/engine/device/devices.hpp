#pragma once
#include <cstdio>
#include <memory>

#include "gpu/device.hpp"

namespace troupe::engine::test {

/// A CUDA device, emulated or real; null where there is none, which is said.
inline std::unique_ptr<gpu::device> cuda_or_null(const gpu::device_options& options = {}) {
  auto made = gpu::make_cuda_device(0, options);
  if (!made) {
    std::printf("%s\n", describe(made.error()).c_str());
    return nullptr;
  }
  return std::move(*made);
}

/// The ops of another device alone: it neither chooses tokens nor records.
class plain_device final : public gpu::device {
public:
  explicit plain_device(gpu::device& inner) : inner_{inner} {}

  std::string name() const override { return inner_.name(); }
  uint64_t memory_bytes() const override { return inner_.memory_bytes(); }
  bool reads_host_memory() const override { return inner_.reads_host_memory(); }
  bool takes(dtype type) const override { return inner_.takes(type); }
  gpu::weight_layout best_layout(dtype type) const override { return inner_.best_layout(type); }
  bool keeps_kv(dtype type) const override { return inner_.keeps_kv(type); }
  caf::expected<gpu::buffer> allocate(size_t size) override { return inner_.allocate(size); }
  void copy_to_device(void* to, const void* from, size_t size) override {
    inner_.copy_to_device(to, from, size);
  }
  void copy_to_host(void* to, const void* from, size_t size) override {
    inner_.copy_to_host(to, from, size);
  }
  void copy(void* to, const void* from, size_t size) override { inner_.copy(to, from, size); }
  caf::error synchronize() override { return inner_.synchronize(); }
  void embedding(const gpu::embedding_args& args) override { inner_.embedding(args); }
  void rms_norm(const gpu::rms_norm_args& args) override { inner_.rms_norm(args); }
  void linear(const gpu::linear_args& args) override { inner_.linear(args); }
  void quantize(const gpu::quantize_args& args) override { inner_.quantize(args); }
  void rope(const gpu::rope_args& args) override { inner_.rope(args); }
  void kv_write(const gpu::kv_write_args& args) override { inner_.kv_write(args); }
  void attention(const gpu::attention_args& args) override { inner_.attention(args); }
  void gated_activation(const gpu::gated_activation_args& args) override {
    inner_.gated_activation(args);
  }
  void gather_rows(const gpu::gather_rows_args& args) override { inner_.gather_rows(args); }

private:
  void release(void*, size_t) noexcept override {} // buffers belong to the inner device

  gpu::device& inner_;
};

} // namespace troupe::engine::test
