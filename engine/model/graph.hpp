#pragma once
#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <vector>

#include "engine/kv/kv_arena.hpp"
#include "engine/model/model_config.hpp"
#include "engine/model/rope.hpp"
#include "engine/model/weights.hpp"
#include "engine/model/workspace.hpp"
#include "gpu/device.hpp"

namespace troupe::engine {

/// The ragged rows of one step. Sequence s owns rows row_start[s] .. row_start[s + 1], the last of
/// its `context[s]` tokens; `block_table` is [sequences, table_stride].
struct forward_batch {
  std::vector<token_id> tokens;
  std::vector<int64_t> positions;
  std::vector<int64_t> slots; ///< KV slot of each row (see `gpu::kv_write_args`)
  std::vector<int32_t> row_start{0};
  std::vector<int32_t> context;
  std::vector<int32_t> block_table;
  int64_t table_stride = 0;
  std::vector<int32_t> logit_rows; ///< rows whose logits are wanted
  void clear();
  /// Which of a sequence's tokens a step computes: `rows` from position `first` on. Logits are
  /// wanted of the last `logits` of them.
  struct part {
    size_t first = 0, rows = 0, logits = 0;
  };
  /// Adds a sequence whose keys and values are, or come, in `blocks` of `kv`, `table_stride` at
  /// most. token_at(position) gives its tokens.
  template <class TokenAt>
  void append(const part& of, std::span<const int32_t> blocks, const kv_arena& kv,
              const TokenAt& token_at);
  void reserve(size_t rows_max, size_t sequences_max, size_t logit_rows_max, size_t blocks_max);
};

template <class TokenAt>
void forward_batch::append(const part& of, std::span<const int32_t> blocks, const kv_arena& kv,
                           const TokenAt& token_at) {
  const auto block_size = kv.shape().block_size;
  const auto end = of.first + of.rows;
  for (size_t at = of.first; at < end; ++at) {
    const auto position = static_cast<int64_t>(at);
    tokens.push_back(token_at(at));
    positions.push_back(position);
    const auto block = kv.number(blocks[static_cast<size_t>(position / block_size)]);
    slots.push_back(int64_t{block} * block_size + position % block_size);
  }
  for (size_t i = of.logits; i > 0; --i)
    logit_rows.push_back(static_cast<int32_t>(tokens.size() - i));
  row_start.push_back(static_cast<int32_t>(tokens.size()));
  context.push_back(static_cast<int32_t>(end));
  for (const auto block : blocks)
    block_table.push_back(kv.number(block));
  block_table.resize(context.size() * static_cast<size_t>(table_stride));
}

/// The largest step that a graph runs.
struct step_size {
  int64_t rows = 0;
  int64_t sequences = 0;
  int64_t blocks = 0; ///< of a sequence
  int64_t logit_rows = 0;
  uint64_t choice_bytes = 0;  ///< for what chooses from the logits
  uint64_t scratch_bytes = 0; ///< that ops take while they run, see `graph::scratch_bytes`
};

/// The decoder of every supported family, parametrised by its config, over the device's ops. Its
/// activations lie in a workspace that it may share with others; a step that waits for weights
/// keeps its own on the host when another one wants the room.
class graph final : private workspace_user {
public:
  /// `weights` and `device` must outlive the graph. Without `work` it has a workspace of its own.
  static caf::expected<std::unique_ptr<graph>> create(const model_config& config,
                                                      const model_weights& weights,
                                                      gpu::device& device, const step_size& largest,
                                                      std::shared_ptr<workspace> work = nullptr);
  static uint64_t workspace_bytes(const model_config& config, const step_size& largest);
  /// What the ops of such steps take on `device` while they run; keys and values in blocks of
  /// `block_size` tokens.
  static uint64_t scratch_bytes(const model_config& config, const step_size& largest,
                                int64_t block_size, const gpu::device& device);
  ~graph() override;
  /// What it needs of the workspace.
  uint64_t workspace_bytes() const { return workspace_bytes(config_, largest_); }
  /// The table stride for sequences of `widest` blocks at most. Grows by doubling, so that steps
  /// whose ops a device has recorded come again while texts grow.
  int64_t table_stride(size_t widest) const;

  /// Queues the batch, writing keys and values to `kv`. Gives where logits [logit_rows, vocabulary]
  /// will be, in device memory, until the next call, or that of another user of the workspace. The
  /// batch must be within the limits given to `create`. Waits for weights that are still on their
  /// way, layer by layer, and fails as their load does.
  caf::expected<float*> queue(const forward_batch& batch, const kv_arena& kv);
  /// As `queue`, and waits: the logits are in host memory, for as long.
  caf::expected<std::span<float>> run(const forward_batch& batch, const kv_arena& kv);
  /// As `queue`, without waiting for weights: queues the layers whose weights are there, and gives
  /// null if some are missing. The next call, with the same batch, goes on behind them.
  caf::expected<float*> advance(const forward_batch& batch, const kv_arena& kv);
  /// The next `advance` begins anew, with any batch.
  void restart() {
    next_ = unstaged;
    held_ = {};
  }
  /// Device memory of `step_size::choice_bytes`, aligned to 64 bytes, for as long as the logits.
  std::byte* choice_room() const { return choice_room_; }
  /// Layers that `advance` has run of a batch that it is not through with.
  int64_t layers_run() const { return std::max<int64_t>(next_, 0); }

private:
  struct layout; // offsets into the workspace
  graph(const model_config& config, const model_weights& weights, gpu::device& device,
        const step_size& largest);
  void put_aside() override;
  void moves() override { device_.forget_recordings(this); }
  caf::error enter();
  caf::error come_back(const forward_batch& batch);
  /// What comes first is the embedding, as a layer -1; behind the last one is the head.
  static constexpr int64_t embedding = -1, unstaged = -2;
  size_t tensors_for(int64_t layer) const;
  void stage(const forward_batch& batch);
  void run_layer(int64_t index, const forward_batch& batch, const kv_arena& kv);
  int64_t last_of(const forward_batch& batch) const;
  void run_head(int64_t rows);
  void run_recorded(const forward_batch& batch, const kv_arena& kv);
  void attention(int64_t index, const forward_batch& batch, const kv_arena& kv);
  void mlp(int64_t index, int64_t rows);
  void norm(const float* x, float* out, const gpu::weight& gain, int64_t rows, int64_t cols,
            int64_t groups = 1);
  struct product {
    gpu::weight w;
    gpu::weight bias;
    float* out;
    bool accumulate = false;
  };
  /// Products of the same rows, three at most.
  void linear(const float* x, int64_t rows, std::initializer_list<product> products);

  const model_config config_;
  const model_weights& weights_;
  gpu::device& device_;
  size_t first_tensors_; ///< of the plan: before the first layer, and in each
  size_t layer_tensors_;
  int64_t next_ = unstaged; ///< the layer that `advance` runs next
  step_size largest_;
  rope_table rope_;
  std::shared_ptr<workspace> work_;
  size_t staged_ = 0;       ///< rows
  std::vector<float> held_; ///< x of those, while another one has the workspace
  // Parts of the workspace.
  float *x_ = nullptr, *normed_ = nullptr, *q_ = nullptr, *k_ = nullptr, *v_ = nullptr,
        *mixed_ = nullptr, *gate_ = nullptr, *up_ = nullptr, *cos_ = nullptr, *sin_ = nullptr,
        *picked_ = nullptr, *logits_ = nullptr;
  int32_t *ids_ = nullptr, *row_start_ = nullptr, *context_ = nullptr, *table_ = nullptr,
          *logit_rows_ = nullptr;
  int64_t* slots_ = nullptr;
  std::byte *choice_room_ = nullptr, *scratch_ = nullptr;
  std::vector<float> host_cos_, host_sin_, host_logits_;
};

} // namespace troupe::engine
