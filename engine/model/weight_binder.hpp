#pragma once
#include <optional>
#include <vector>

#include "engine/engine.hpp"
#include "engine/model/weights.hpp"
#include "gpu/device.hpp"

namespace troupe::engine {

/// Brings weights to where a device reads them, one by one, and stops caring after the first
/// failure.
class weight_binder {
public:
  weight_binder(const weight_lookup& lookup, gpu::device& device, std::vector<gpu::buffer>& copies)
      : lookup_{lookup}, device_{device}, copies_{copies} {}

  /// The tensor of that name and shape, as the checkpoint has it.
  gpu::weight plain(const weight_spec& want);
  /// The same for a matrix that is multiplied with, laid out as the device likes it.
  /// `keep` = the blocks to keep it in; none = its own type.
  gpu::weight linear(const weight_spec& want, std::optional<dtype> keep);

  const caf::error& error() const { return error_; }
  uint64_t size_bytes() const { return size_bytes_; }

private:
  std::optional<weight_view> find(const weight_spec& want);
  /// False, with the error kept, if the bytes will not come.
  bool has_bytes(const weight_view& found);
  std::optional<gpu::buffer> allocate(const weight_spec& want, size_t bytes);
  /// Keeps the buffer; the weight in it.
  gpu::weight kept(const weight_spec& want, dtype type, gpu::buffer memory);
  gpu::weight converted(const weight_spec& want, const weight_view& found, dtype to);
  gpu::weight made(const weight_spec& want, const weight_view& found);
  gpu::weight in_place(const weight_spec& want, const weight_view& found);

  const weight_lookup& lookup_;
  gpu::device& device_;
  std::vector<gpu::buffer>& copies_;
  caf::error error_;
  uint64_t size_bytes_ = 0;
};

/// The type that a tensor of type `from` is kept in if blocks of type `keep` are wished for: what
/// takes no more bits already stays as it is.
dtype type_kept(dtype from, std::optional<dtype> keep);

} // namespace troupe::engine
