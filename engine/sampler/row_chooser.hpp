#pragma once
#include <cstddef>
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

  /// What it chooses from: rows of `width` logits. Tokens are below `vocabulary`: what a row has
  /// beyond is not looked at, what it lacks is never chosen.
  struct extent {
    int64_t width = 0;
    int64_t vocabulary = 0;
    int64_t rows_max = 0;
  };
  /// `device` must outlive it.
  row_chooser(gpu::device& device, const extent& of);
  /// Device memory that `choose` works in, beside the logits. Null: of a device that chooses.
  static uint64_t room_bytes(const gpu::device* device, const extent& of);

  void clear();
  void add(const row& next);
  /// Waits for the device. `logits` [rows added, width] is device memory and is overwritten, as
  /// `room` is, which is of `room_bytes` and aligned to 64 bytes.
  caf::error choose(float* logits, std::byte* room);
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
  size_t rows_max_ = 0;
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
