#include "gpu/self_check.hpp"

#include <gtest/gtest.h>

#include "gpu/cpu/host_device.hpp"
#include "gpu/cpu/reference_ops.hpp"
#include "gpu/errors.hpp"

namespace troupe::gpu {
namespace {

namespace plain = cpu::reference;

/// The reference, but for one op that leaves its last output undone.
class damaged_device final : public cpu::host_device {
public:
  explicit damaged_device(std::string op) : op_{std::move(op)} {}
  std::string name() const override { return "damaged"; }

  void embedding(const embedding_args& args) override { plain::embedding(cut("embedding", args)); }
  void rms_norm(const rms_norm_args& args) override { plain::rms_norm(cut("rms_norm", args)); }
  void linear(const linear_args& args) override { plain::linear(cut("linear", args)); }
  void quantize(const quantize_args& args) override {
    plain::quantize(args);
    if (op_ == "quantize")
      static_cast<unsigned char*>(args.out)[1] ^= 0x7c; // a scale of another size
  }
  void rope(const rope_args& args) override { plain::rope(cut("rope", args)); }
  void kv_write(const kv_write_args& args) override { plain::kv_write(cut("kv_write", args)); }
  void attention(const attention_args& args) override {
    plain::attention(args);
    if (op_ == "attention")
      std::fill_n(args.out + (args.rows - 1) * args.out_stride, args.cache.head_dim, 0.0f);
  }
  void gated_activation(const gated_activation_args& args) override {
    plain::gated_activation(cut("gated_activation", args));
  }
  void gather_rows(const gather_rows_args& args) override {
    plain::gather_rows(cut("gather_rows", args));
  }

private:
  template <class T>
  T cut(const char* name, T args) const {
    if (op_ == name)
      --args.rows;
    return args;
  }
  std::string op_;
};

TEST(self_check_test, passes_on_the_cpu_backends) {
  EXPECT_FALSE(self_check(*make_reference_device(), products::fastest));
  for (const auto& isa : cpu_isas()) {
    const auto dev = make_cpu_device({2, precision::automatic, isa});
    const auto why = self_check(*dev);
    EXPECT_FALSE(why) << describe(why);
  }
}

TEST(self_check_test, notices_every_op_that_leaves_a_row_undone) {
  for (const char* op : {"embedding", "rms_norm", "linear", "quantize", "rope", "kv_write",
                         "attention", "gated_activation", "gather_rows"}) {
    damaged_device dev{op};
    const auto why = self_check(dev);
    EXPECT_EQ(why, errc::device_failed) << op;
  }
}

} // namespace
} // namespace troupe::gpu
