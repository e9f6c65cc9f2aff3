#pragma once
#include <vector>

#include "gpu/cpu/host_device.hpp"
#include "gpu/cpu/isa.hpp"
#include "gpu/cpu/scratch.hpp"
#include "gpu/cpu/thread_pool.hpp"

namespace troupe::gpu::cpu {

/// The CPU backend: cuts ops into tasks for the pool and hands those to the kernels of the chosen
/// instruction set. Tasks split rows, outputs and heads, never a sum, so that neither the batch nor
/// the number of threads changes a bit of the result.
class cpu_device final : public host_device {
public:
  explicit cpu_device(const device_options& options);

  std::string name() const override;
  void embedding(const embedding_args& args) override;
  void rms_norm(const rms_norm_args& args) override;
  void linear(const linear_args& args) override;
  void quantize(const quantize_args& args) override;
  void rope(const rope_args& args) override;
  void kv_write(const kv_write_args& args) override;
  void attention(const attention_args& args) override;
  void gated_activation(const gated_activation_args& args) override;
  void gather_rows(const gather_rows_args& args) override;

private:
  struct attention_task;

  template <class Body>
  void for_rows(int64_t rows, int64_t elements_per_row, const Body& body);
  const float* widened(const weight& w);
  const unsigned char* rounded_rows(const linear_args& args, int64_t padded);
  using linear_kernel = void (*)(const linear_job& job, const tile_range& range);
  void run_linear(const linear_job& job, const linear_args& args, linear_kernel kernel);
  void run_expanded(const linear_job& job, const linear_args& args, bool dot);
  void plan_attention(const attention_args& args);
  void run_attention(const attention_args& args, const attention_task& task, float* scratch) const;

  isa_choice isa_;
  thread_pool pool_;
  std::vector<scratch> thread_scratch_;
  scratch rounded_;
  scratch small_weight_;
  std::vector<attention_task> attention_tasks_;
};

} // namespace troupe::gpu::cpu
