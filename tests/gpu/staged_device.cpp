#include "tests/gpu/staged_device.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace troupe::gpu::test {
namespace {

uint64_t bytes_of(const weight& w) {
  return troupe::bytes_of(w.type, static_cast<uint64_t>(w.rows * w.cols));
}

class staged_device final : public device {
public:
  explicit staged_device(std::unique_ptr<device> inner) : inner_{std::move(inner)} {}

  std::string name() const override { return inner_->name(); }
  uint64_t memory_bytes() const override { return inner_->memory_bytes(); }
  bool reads_host_memory() const override { return false; }
  bool takes(dtype type) const override { return inner_->takes(type); }
  bool keeps_kv(dtype type) const override { return inner_->keeps_kv(type); }
  caf::expected<buffer> allocate(size_t size) override { return inner_->allocate(size); }
  void copy_to_device(void* to, const void* from, size_t size) override {
    inner_->copy_to_device(to, from, size);
  }
  void copy_to_host(void* to, const void* from, size_t size) override {
    inner_->copy_to_host(to, from, size);
  }
  void copy(void* to, const void* from, size_t size) override { inner_->copy(to, from, size); }
  caf::error synchronize() override { return inner_->synchronize(); }

  void embedding(const embedding_args& host) override {
    auto args = host;
    in(args.table);
    in(args.ids, args.rows);
    inout(args.out, args.rows * args.table.cols);
    inner_->embedding(args);
    finish();
  }
  void rms_norm(const rms_norm_args& host) override {
    auto args = host;
    in(args.gain);
    const auto width = args.groups * args.cols;
    inout(args.out, span(args.rows, args.out_stride, width));
    if (host.x == host.out)
      args.x = args.out;
    else
      in(args.x, span(args.rows, args.x_stride, width));
    inner_->rms_norm(args);
    finish();
  }
  void linear(const linear_args& host) override {
    auto args = host;
    in(args.x, span(args.rows, args.x_stride, args.w.cols));
    in(args.w);
    in(args.bias);
    inout(args.out, span(args.rows, args.out_stride, args.w.rows));
    inner_->linear(args);
    finish();
  }
  void quantize(const quantize_args& host) override {
    auto args = host;
    in(args.w);
    auto* out = static_cast<unsigned char*>(args.out);
    inout(out, static_cast<int64_t>(
                   troupe::bytes_of(args.to, static_cast<uint64_t>(args.w.rows * args.w.cols))));
    args.out = out;
    inner_->quantize(args);
    finish();
  }
  void rope(const rope_args& host) override {
    auto args = host;
    inout(args.x, span(args.rows, args.stride, args.heads * args.head_dim));
    in(args.cos, args.rows * (args.rotary_dim / 2));
    in(args.sin, args.rows * (args.rotary_dim / 2));
    inner_->rope(args);
    finish();
  }
  void kv_write(const kv_write_args& host) override {
    auto args = host;
    const auto width = args.cache.kv_heads * args.cache.head_dim;
    in(args.k, span(args.rows, args.k_stride, width));
    in(args.v, span(args.rows, args.v_stride, width));
    in(args.slots, args.rows);
    cache(args.cache);
    inner_->kv_write(args);
    finish();
  }
  void attention(const attention_args& host) override {
    auto args = host;
    args.rows = args.row_start[args.sequences];
    const auto width = args.heads * args.cache.head_dim;
    in(args.q, span(args.rows, args.q_stride, width));
    inout(args.out, span(args.rows, args.out_stride, width));
    in(args.row_start, args.sequences + 1);
    in(args.context, args.sequences);
    in(args.block_table, args.sequences * args.table_stride);
    cache(args.cache);
    inner_->attention(args);
    finish();
  }
  void gated_activation(const gated_activation_args& host) override {
    auto args = host;
    in(args.up, span(args.rows, args.up_stride, args.cols));
    inout(args.out, span(args.rows, args.out_stride, args.cols));
    if (host.gate == host.out)
      args.gate = args.out;
    else
      in(args.gate, span(args.rows, args.gate_stride, args.cols));
    inner_->gated_activation(args);
    finish();
  }
  void gather_rows(const gather_rows_args& host) override {
    auto args = host;
    int64_t last = -1;
    for (int64_t i = 0; i < args.rows; ++i)
      last = std::max<int64_t>(last, args.index[i]);
    in(args.x, span(last + 1, args.x_stride, args.cols));
    in(args.index, args.rows);
    inout(args.out, args.rows * args.cols);
    inner_->gather_rows(args);
    finish();
  }

private:
  /// Elements of a matrix from its first to its last.
  static int64_t span(int64_t rows, int64_t stride, int64_t cols) {
    return rows == 0 ? 0 : (rows - 1) * stride + cols;
  }

  void* place(const void* from, size_t size) {
    auto memory = inner_->allocate(size);
    if (!memory) {
      std::fprintf(stderr, "staging: %s\n", describe(memory.error()).c_str());
      std::abort();
    }
    inner_->copy_to_device(memory->data(), from, size);
    held_.push_back(std::move(*memory));
    return held_.back().data();
  }
  template <class T>
  void in(const T*& pointer, int64_t count) {
    pointer = static_cast<const T*>(place(pointer, static_cast<size_t>(count) * sizeof(T)));
  }
  void in(weight& w) {
    if (w)
      w.data = place(w.data, bytes_of(w));
  }
  /// What was there before goes along: an op may leave gaps, or add to it.
  template <class T>
  void inout(T*& pointer, int64_t count) {
    const auto size = static_cast<size_t>(count) * sizeof(T);
    T* host = pointer;
    pointer = static_cast<T*>(place(host, size));
    results_.push_back({host, pointer, size});
  }
  void cache(kv_cache_view& view) {
    if (view.arena != nullptr)
      inout(view.arena, static_cast<int64_t>(view.arena_bytes));
  }
  void finish() {
    for (const auto& one : results_)
      inner_->copy_to_host(one.host, one.device, one.size);
    if (const auto why = inner_->synchronize()) {
      std::fprintf(stderr, "staging: %s\n", describe(why).c_str());
      std::abort();
    }
    results_.clear();
    held_.clear();
  }
  void release(void*, size_t) noexcept override {} // buffers belong to the inner device

  struct result {
    void* host;
    const void* device;
    size_t size;
  };
  std::unique_ptr<device> inner_;
  std::vector<buffer> held_;
  std::vector<result> results_;
};

} // namespace

std::unique_ptr<device> make_staged_device(std::unique_ptr<device> inner) {
  return std::make_unique<staged_device>(std::move(inner));
}

} // namespace troupe::gpu::test
