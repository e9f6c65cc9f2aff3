#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "engine/sampler/sampler.hpp"
#include "gpu/choose.hpp"
#include "gpu/device.hpp"

namespace troupe::engine {

/// Chooses the tokens of a step's rows: on a device that does so (`gpu::device::choose`), or by the
/// sampler from logits that come to the host, with the same results bit for bit. Which of the two
/// is decided before the step, for each row: the host takes those whose logit_bias names a token
/// twice, and those whose penalties touch more tokens than there is room for. Allocates nothing
/// once it is made, but for alternatives' logprobs and for logits that come to the host.
class row_chooser {
public:
  /// What is known of a row before its logits are.
  struct row {
    const sampling_params& params;
    std::span<const token_id> tokens;  ///< prompt and generated so far
    std::span<const token_id> guesses; ///< taken for generated behind those
    size_t prompt_size = 0;
    std::span<const token_id> end_tokens;
  };

  row_chooser() = default;
  /// For `rows_max` rows of `width` logits each. Tokens are below `vocabulary`: what a row has
  /// beyond is not looked at, what it lacks is never chosen. `device` must outlive it.
  static caf::expected<row_chooser> create(gpu::device& device, int64_t width, int64_t vocabulary,
                                           int64_t rows_max);
  /// Device memory that it takes, beside the logits.
  uint64_t size_bytes() const { return memory_.size_bytes(); }

  void clear();
  void add(const row& next);
  /// Waits for the device. `logits` [rows added, width] is device memory and is overwritten.
  caf::error choose(float* logits);
  /// What was chosen for the row with that number, whose guesses turned out right: `context` is
  /// what it was said to be. Once for each row. Fails with bad_numbers.
  caf::expected<sampled_token> take(size_t number, const sampling_context& context);

private:
  bool add_edits(const row& next, gpu::choose_row& to);
  caf::error bring(float* logits);
  std::span<float> in_vocabulary(std::span<float> logits);

  gpu::device* device_ = nullptr;
  int64_t width_ = 0;
  int64_t vocabulary_ = 0;
  bool on_device_ = false;
  gpu::buffer memory_; ///< of what follows, in this order
  gpu::choose_row* how_there_ = nullptr;
  gpu::choose_edit* edits_there_ = nullptr;
  gpu::chosen_token* chosen_there_ = nullptr;
  size_t edits_max_ = 0;
  size_t rows_ = 0;
  std::vector<gpu::choose_row> how_;
  std::vector<gpu::choose_edit> edits_;
  std::vector<gpu::chosen_token> chosen_;
  std::vector<uint32_t> edit_of_; ///< of each token, from 1; all zero between rows
  sampler sampler_;
  std::span<float> logits_;        ///< [rows, width] on the host, of rows that are left to it
  std::vector<float> host_logits_; ///< unless the device's memory is the host's
  std::vector<float> widened_;     ///< a row for another vocabulary
};

} // namespace troupe::engine
