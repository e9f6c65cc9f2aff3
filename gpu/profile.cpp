#include "gpu/profile.hpp"

#include <algorithm>
#include <span>
#include <utility>

#include "gpu/choose.hpp"

namespace troupe::gpu {
namespace {

using clock = std::chrono::steady_clock;

double as_double(int64_t count) { return static_cast<double>(count); }

double bytes_of_weight(const weight& w) {
  return w ? static_cast<double>(bytes_of(w.type, static_cast<uint64_t>(w.rows * w.cols))) : 0.0;
}

/// What tells one line of the profile from another: cheap to compare, so that no text is built
/// while a model runs.
struct op_key {
  const char* op;
  int64_t rows = 0, cols = 0; ///< of the weight; 0 = the op has none that matters
  dtype type = dtype::f32;
  bool operator==(const op_key&) const = default;

  std::string name() const {
    if (rows == 0)
      return op;
    return std::string{op} + " [" + std::to_string(rows) + ", " + std::to_string(cols) + "] " +
           std::string{to_string(type)};
  }
};

op_key key_of(const char* op, const weight& w) { return {op, w.rows, w.cols, w.type}; }

class profiling final : public profiled_device {
public:
  explicit profiling(std::unique_ptr<device> inner)
      : inner_{std::move(inner)}, host_{inner_->reads_host_memory()} {}

  std::string name() const override { return inner_->name(); }
  uint64_t memory_bytes() const override { return inner_->memory_bytes(); }
  bool reads_host_memory() const override { return host_; }
  bool keeps_kv(dtype type) const override { return inner_->keeps_kv(type); }
  bool takes(dtype type) const override { return inner_->takes(type); }
  weight_layout best_layout(dtype type) const override { return inner_->best_layout(type); }
  // The buffer belongs to the inner device, which frees it.
  caf::expected<buffer> allocate(size_t size_bytes) override {
    return inner_->allocate(size_bytes);
  }
  caf::error synchronize() override { return inner_->synchronize(); }
  uint64_t scratch_bytes(const linear_args& a) const override { return inner_->scratch_bytes(a); }
  uint64_t scratch_bytes(const attention_args& a) const override {
    return inner_->scratch_bytes(a);
  }
  uint64_t scratch_bytes(const choose_args& a) const override { return inner_->scratch_bytes(a); }
  void lend_scratch(void* memory, uint64_t size_bytes) override {
    inner_->lend_scratch(memory, size_bytes);
  }
  // What it does while the model runs is not this profile's.
  std::unique_ptr<device> second_queue() override { return inner_->second_queue(); }
  std::shared_ptr<memory_pinner> pinner() override { return inner_->pinner(); }

  void copy_to_device(void* to, const void* from, size_t size_bytes) override {
    note({"copy to device"}, as_double(static_cast<int64_t>(size_bytes)), 0,
         [&] { inner_->copy_to_device(to, from, size_bytes); });
  }
  void copy_pinned_to_device(void* to, const void* from, size_t size_bytes) override {
    note({"copy to device"}, as_double(static_cast<int64_t>(size_bytes)), 0,
         [&] { inner_->copy_pinned_to_device(to, from, size_bytes); });
  }
  void copy(void* to, const void* from, size_t size_bytes) override {
    note({"copy"}, 2 * as_double(static_cast<int64_t>(size_bytes)), 0,
         [&] { inner_->copy(to, from, size_bytes); });
  }
  memory_home home() const override { return inner_->home(); }
  void copy_from(const memory_home& other, void* to, const void* from, size_t size_bytes) override {
    note({"copy from a device"}, as_double(static_cast<int64_t>(size_bytes)), 0,
         [&] { inner_->copy_from(other, to, from, size_bytes); });
  }
  void copy_to_host(void* to, const void* from, size_t size_bytes) override {
    note({"copy to host"}, as_double(static_cast<int64_t>(size_bytes)), 0,
         [&] { inner_->copy_to_host(to, from, size_bytes); });
  }
  void embedding(const embedding_args& a) override {
    const auto values = as_double(a.rows * a.table.cols);
    note({"embedding"}, values * (4.0 + static_cast<double>(size_of(a.table.type))), 0,
         [&] { inner_->embedding(a); });
  }
  void rms_norm(const rms_norm_args& a) override {
    const auto values = as_double(a.rows * a.groups * a.cols);
    note({"rms_norm"}, values * 8, values * 4, [&] { inner_->rms_norm(a); });
  }
  void linear(const linear_args& a) override { linear_group({&a, 1}); }
  void linear_group(std::span<const linear_args> group) override {
    weight all = group[0].w;
    all.rows = 0;
    double bytes = 4 * as_double(group[0].rows * all.cols);
    for (const auto& a : group) {
      all.rows += a.w.rows;
      bytes += bytes_of_weight(a.w) + 4 * as_double(a.rows * a.w.rows * (a.accumulate ? 2 : 1));
    }
    note(key_of("linear", all), bytes, 2 * as_double(group[0].rows * all.rows * all.cols),
         [&] { inner_->linear_group(group); });
  }
  void quantize(const quantize_args& a) override {
    const weight made{a.out, a.to, a.w.rows, a.w.cols};
    note({"quantize"}, bytes_of_weight(a.w) + bytes_of_weight(made), 0,
         [&] { inner_->quantize(a); });
  }
  void rope(const rope_args& a) override {
    const auto values = as_double(a.rows * a.heads * a.rotary_dim);
    note({"rope"}, values * 8, values * 3, [&] { inner_->rope(a); });
  }
  void kv_write(const kv_write_args& a) override {
    const auto values = 2 * as_double(a.rows * a.cache.kv_heads * a.cache.head_dim);
    note({"kv_write"}, values * (4.0 + static_cast<double>(size_of(a.cache.type))), 0,
         [&] { inner_->kv_write(a); });
  }
  void attention(const attention_args& a) override {
    const auto [bytes, flops] = attention_work(a);
    note({"attention"}, bytes, flops, [&] { inner_->attention(a); });
  }
  void gated_activation(const gated_activation_args& a) override {
    const auto values = as_double(a.rows * a.cols);
    note({"gated_activation"}, values * 12, values * 6, [&] { inner_->gated_activation(a); });
  }
  void gather_rows(const gather_rows_args& a) override {
    note({"gather_rows"}, as_double(a.rows * a.cols) * 8, 0, [&] { inner_->gather_rows(a); });
  }
  bool chooses() const override { return inner_->chooses(); }
  void choose(const choose_args& a) override {
    note({"choose"}, as_double(a.rows * a.vocabulary) * 4, 0, [&] { inner_->choose(a); });
  }
  // Ops are not recorded: each is measured.

  std::vector<op_cost> take_costs() override {
    std::vector<op_cost> out;
    for (auto& line : std::exchange(lines_, {})) {
      line.cost.name = line.key.name();
      out.push_back(std::move(line.cost));
    }
    std::ranges::stable_sort(out,
                             [](const op_cost& a, const op_cost& b) { return a.time > b.time; });
    return out;
  }

private:
  struct line {
    op_key key;
    op_cost cost;
  };

  // Never called: `allocate` gives out buffers of the inner device.
  void release(void*, size_t) noexcept override {}

  template <class Call>
  void note(const op_key& key, double bytes, double flops, const Call& call) {
    const auto begun = clock::now();
    call();
    // An error stays with the device and comes out of the next `synchronize` of its user.
    if (!host_)
      (void)inner_->synchronize();
    const auto took = clock::now() - begun;
    auto at = std::ranges::find(lines_, key, &line::key);
    if (at == lines_.end())
      at = lines_.insert(at, line{key, {}});
    auto& cost = at->cost;
    ++cost.calls;
    cost.time += std::chrono::duration_cast<std::chrono::nanoseconds>(took);
    cost.bytes += bytes;
    cost.flops += flops;
  }

  /// Lengths are in device memory: without a look into it the work is not known.
  std::pair<double, double> attention_work(const attention_args& a) const {
    if (!host_)
      return {0, 0};
    double bytes = 0, flops = 0;
    for (int64_t s = 0; s < a.sequences; ++s) {
      const double rows = a.row_start[s + 1] - a.row_start[s];
      double seen = a.context[s];
      if (a.window > 0)
        seen = std::min(seen, as_double(a.window) + rows - 1);
      bytes += 2 * seen * as_double(a.cache.kv_heads * a.cache.head_dim) *
               static_cast<double>(size_of(a.cache.type));
      const double visible =
          a.window > 0 ? std::min(seen, as_double(a.window)) : seen - (rows - 1) / 2;
      flops += 4 * rows * visible * as_double(a.heads * a.cache.head_dim);
    }
    return {bytes, flops};
  }

  std::unique_ptr<device> inner_;
  bool host_;
  std::vector<line> lines_;
};

} // namespace

std::unique_ptr<profiled_device> make_profiled_device(std::unique_ptr<device> inner) {
  return std::make_unique<profiling>(std::move(inner));
}

} // namespace troupe::gpu
