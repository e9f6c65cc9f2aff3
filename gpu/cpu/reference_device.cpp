#include "gpu/cpu/host_device.hpp"
#include "gpu/cpu/reference_ops.hpp"
#include "gpu/device.hpp"

namespace troupe::gpu {
namespace {

class reference_device final : public cpu::host_device {
public:
  std::string name() const override { return "cpu (reference)"; }
  std::unique_ptr<device> second_queue() override { return make_reference_device(); }
  memory_home home() const override { return {"reference", 0}; }

  void embedding(const embedding_args& args) override { cpu::reference::embedding(args); }
  void rms_norm(const rms_norm_args& args) override { cpu::reference::rms_norm(args); }
  void linear(const linear_args& args) override { cpu::reference::linear(args); }
  void quantize(const quantize_args& args) override { cpu::reference::quantize(args); }
  void rope(const rope_args& args) override { cpu::reference::rope(args); }
  void kv_write(const kv_write_args& args) override { cpu::reference::kv_write(args); }
  void attention(const attention_args& args) override { cpu::reference::attention(args); }
  void gated_activation(const gated_activation_args& args) override {
    cpu::reference::gated_activation(args);
  }
  void gather_rows(const gather_rows_args& args) override { cpu::reference::gather_rows(args); }
};

} // namespace

std::unique_ptr<device> make_reference_device() { return std::make_unique<reference_device>(); }

} // namespace troupe::gpu
