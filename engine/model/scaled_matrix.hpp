#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/engine.hpp"
#include "engine/model/model_config.hpp"

namespace troupe::engine {

/// One weight matrix that a checkpoint keeps as codes with scales, and what becomes of it.
///
/// Element (n, k) of [outputs, inputs] is scale * (code - zero), where scale and zero are those of
/// (n / rows, k / cols), or of (n / rows, order[k]) if there is an order. Codes lie row by row:
/// - f8_e4m3, int8: a byte each.
/// - packed8, packed4: in 32-bit words, the first in the lowest bits, with 128 or 8 added; a row
///   begins with a new word. Zeros are int8 numbers, or packed likewise along the outputs.
/// These are the layouts of fp8 checkpoints (github.com/huggingface/transformers,
/// integrations/finegrained_fp8.py) and of github.com/vllm-project/compressed-tensors.
class scaled_matrix {
public:
  struct parts {
    weight_view codes, scales;
    std::optional<weight_view> zeros, order, shape;
    /// All but the codes.
    std::vector<const weight_view*> beside() const;
  };

  /// `of` is the matrix, `form` that of its parts, whose shapes fit it.
  scaled_matrix(std::string name, const std::vector<int64_t>& of, const scaled_form& form,
                parts from);

  /// Reads all parts but the codes, which have to be here. Fails with wrong_tensor if they say what
  /// cannot be, or not what `type` was made from.
  caf::error look();
  /// The same, but `type` follows from what is found.
  caf::error look_and_choose();
  /// Without a look: whole numbers that have zeros or an order become bf16.
  void choose_unseen();

  /// What it becomes: blocks that say exactly the same, where there are, else bf16. 8-bit
  /// floats become f8_b128 if their scales are for whole blocks; 8 and 4 bits become q8_0 and q4_0
  /// if they have no zeros, no order, groups of whole blocks, and scales of 16
  /// bits that f16 holds.
  dtype type() const { return type_; }
  const std::vector<int64_t>& shape() const { return shape_; }
  const parts& from() const { return from_; }

  /// Writes rows in `type`. By any number of threads, after `look`.
  void make(int64_t first, int64_t count, std::byte* to) const;
  /// Fails with wrong_tensor if a row that was made has codes that are no number.
  caf::error verdict() const;

private:
  caf::error read_shape() const;
  caf::error read_order();
  caf::error read_scales();
  bool have_zeros() const;
  bool is_exact() const;
  int64_t row_bytes() const;
  const std::byte* row_of(int64_t n) const;
  int64_t scale_at(int64_t n, int64_t group) const;
  float scale(int64_t at) const;
  int zero(int64_t n, int64_t group) const;
  void make_row_bf16(int64_t n, std::byte* to) const;
  void make_row_f8(int64_t n, std::byte* to) const;
  void make_row_q8_0(int64_t n, std::byte* to) const;
  void make_row_q4_0(int64_t n, std::byte* to) const;
  caf::error wrong(const std::string& part, const std::string& what) const;

  const std::string name_;
  const std::vector<int64_t> shape_;
  const weight_code code_;
  const int64_t rows_, cols_; ///< that share a scale
  const int64_t groups_;      ///< of inputs
  const parts from_;
  std::vector<int32_t> order_; ///< the group of each input; empty = side by side
  bool zeros_ = false;         ///< some zero is not zero
  bool f16_scales_ = true;     ///< f16 holds all of them
  dtype type_;
  mutable std::atomic<int64_t> bad_row_{-1};
};

/// What a matrix of that shape and form becomes if its bytes are as its tensors' types say.
dtype scaled_type(const scaled_form& form, const std::vector<int64_t>& shape, dtype scales);

} // namespace troupe::engine
