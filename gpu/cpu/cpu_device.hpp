#pragma once
#include <array>
#include <span>
#include <vector>

#include "gpu/cpu/host_device.hpp"
#include "gpu/cpu/isa.hpp"
#include "gpu/cpu/scratch.hpp"
#include "gpu/cpu/thread_pool.hpp"

namespace troupe::gpu::cpu {

/// The kernels' name for f32, f16 or bf16, as an index.
size_t kind_of(dtype type);

/// The CPU backend: cuts ops into tasks for the pool and hands those to the kernels of the chosen
/// instruction set. Tasks split rows, outputs and heads, never a sum, so that neither the batch nor
/// the number of threads changes a bit of the result.
class cpu_device : public host_device {
public:
  /// With `cores`, its threads and those that call it are held to these.
  explicit cpu_device(const device_options& options, core_set cores = {});
  /// With other kernels than `options` would choose.
  cpu_device(const device_options& options, isa_choice kernels, core_set cores = {});

  std::string name() const override;
  weight_layout best_layout(dtype type) const override {
    return panel_kernel(type) != nullptr ? weight_layout::panels : weight_layout::rows;
  }
  std::unique_ptr<device> second_queue() override;
  /// The instruction set says for which types there are panels.
  memory_home home() const override { return {"cpu " + isa_.name + (exact_ ? " float32" : ""), 0}; }
  /// By all threads, so that the pages come to lie next to them.
  void copy_from(const memory_home& other, void* to, const void* from, size_t size_bytes) override;
  void embedding(const embedding_args& args) override;
  void rms_norm(const rms_norm_args& args) override;
  void linear(const linear_args& args) override;
  void linear_group(std::span<const linear_args> group) override;
  void quantize(const quantize_args& args) override;
  void rope(const rope_args& args) override;
  void kv_write(const kv_write_args& args) override;
  void attention(const attention_args& args) override;
  void gated_activation(const gated_activation_args& args) override;
  void gather_rows(const gather_rows_args& args) override;

private:
  /// Up to `attention_queries` queries of one sequence and one key/value head. Queries count rows
  /// first, then the heads of the group.
  struct attention_tile {
    int64_t sequence;
    int64_t kv_head;
    int64_t first_query;
    size_t first_part_task = 0; ///< where its parts are tasks
  };
  struct attention_part_task {
    size_t tile;
    int64_t number;
    int64_t state; ///< where in part_states_
  };
  struct tile_queries;

  /// Calls body(begin, end) for ranges that cover all rows, on several threads where it pays.
  template <class Body>
  void for_rows(int64_t rows, int64_t elements_per_row, const Body& body) {
    if (rows * elements_per_row <= serial_elements_max || rows <= 1) {
      if (rows > 0)
        body(int64_t{0}, rows);
      return;
    }
    const int64_t tasks = rows < int64_t{pool_.size()} * 4 ? rows : int64_t{pool_.size()} * 4;
    pool_.run(tasks, [&](int64_t task, unsigned) {
      body(rows * task / tasks, rows * (task + 1) / tasks);
    });
  }
  /// Calls body(task, thread), on several threads where `work` multiplications are worth it.
  template <class Body>
  void for_tasks(int64_t tasks, int64_t work, const Body& body) {
    if (work > 4 * serial_elements_max)
      return pool_.run(tasks, body);
    for (int64_t task = 0; task < tasks; ++task)
      body(task, 0u);
  }
  const float* widened(const weight& w, scratch& room) const;
  const unsigned char* rounded_rows(const linear_args& args, int64_t padded);
  const activation_block* byte_rows(const linear_args& args);
  using linear_kernel = void (*)(const linear_job& job, const tile_range& range);
  void run_linear(const linear_job& job, const linear_args& args, linear_kernel kernel);
  void linear_plain(const linear_args& args);
  panel_function panel_kernel(dtype type) const;
  bool goes_by_panels(const linear_args& args) const;
  struct panel_product;
  panel_job rows_for_panels(const linear_args& args);
  panel_product product_of(const linear_args& args, const panel_job& rows,
                           scratch& bias_room) const;
  void linear_panels(std::span<const linear_args> group);
  void linear_rest(const panel_product& product);
  void run_panels(std::span<panel_product> products, int64_t columns);
  void run_in_panels(const panel_product& product, int64_t task, unsigned thread);
  void run_in_rows(const panel_product& product, int64_t task, unsigned thread);
  void widened_row(const weight& w, int64_t row, float* out) const;
  struct quantize_room;
  void quantize_panel(const quantize_args& args, int64_t row, int64_t count,
                      const quantize_room& room) const;
  void quantize_row(const quantize_args& args, int64_t row, const quantize_room& room,
                    unsigned char* to) const;
  void linear_expanded(const linear_args& args);
  bool is_in_pairs(const kv_cache_view& cache) const;
  void write_pairs(const kv_write_args& args);
  void plan_attention(const attention_args& args);
  tile_queries queries_of(const attention_args& args, const attention_tile& tile) const;
  static int64_t part_floats(const attention_args& args, int queries);
  void attend_tile(const attention_args& args, const attention_tile& tile,
                   const tile_queries& queries, float* scratch, float* state) const;
  void attend_in_parts(const attention_args& args);
  void attend_part(const attention_args& args, const attention_tile& tile,
                   const tile_queries& queries, int64_t number, float* scratch, float* state) const;
  static void merge_part(const attention_args& args, const tile_queries& queries, int64_t number,
                         const float* part, float* state);
  static void divide(const attention_args& args, const tile_queries& queries, const float* state);
  void run_attention(const attention_args& args, const attention_tile& tile,
                     const tile_queries& queries, float* scratch, float* undivided = nullptr) const;

  /// Below this many elements, waking the pool costs more than it saves.
  static constexpr int64_t serial_elements_max = 16 * 1024;
  /// Products in one loop.
  static constexpr size_t products_max = 3;

  bool exact_;
  isa_choice isa_;
  core_set cores_;
  thread_pool pool_;
  std::vector<scratch> thread_scratch_;
  scratch rounded_;
  scratch gain_;
  std::array<scratch, products_max> biases_;
  scratch part_states_;
  std::vector<attention_tile> attention_tiles_;
  std::vector<attention_part_task> attention_parts_;
};

} // namespace troupe::gpu::cpu
