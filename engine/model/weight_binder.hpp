#pragma once
#include <optional>
#include <string>
#include <vector>

#include "engine/engine.hpp"
#include "engine/model/weight_job.hpp"
#include "engine/model/weights.hpp"
#include "gpu/device.hpp"

namespace troupe::engine {

/// Finds and checks weights and gives each its place: where it lies, if the device can use it
/// there, or memory of the device's own. What has to be done until its bytes are there becomes a
/// job. Stops caring after the first failure.
class weight_binder {
public:
  weight_binder(const weight_lookup& lookup, gpu::device& device, std::vector<gpu::buffer>& memory)
      : lookup_{lookup}, device_{device}, memory_{memory} {}

  /// The tensor of that name and shape, as the checkpoint has it. To be called in the order of the
  /// plan; one that is kept in two forms, twice in a row.
  gpu::weight plain(const weight_spec& want);
  /// The same for a matrix that is multiplied with, laid out as the device likes it.
  /// `keep` = the blocks to keep it in; none = its own type.
  gpu::weight linear(const weight_spec& want, std::optional<dtype> keep);

  const caf::error& error() const { return error_; }
  uint64_t size_bytes() const { return size_bytes_; }
  std::vector<weight_job> take_jobs() { return std::move(jobs_); }

private:
  std::optional<weight_view> find(const weight_spec& want);
  gpu::weight place(const weight_spec& want, const weight_view& found, dtype type,
                    gpu::weight_layout layout);

  const weight_lookup& lookup_;
  gpu::device& device_;
  std::vector<gpu::buffer>& memory_;
  std::vector<weight_job> jobs_;
  std::string last_name_;
  size_t tensors_ = 0;
  bool lies_there_ = false; ///< the last tensor is used in place
  caf::error error_;
  uint64_t size_bytes_ = 0;
};

/// The type that a tensor of type `from` is kept in if blocks of type `keep` are wished for: what
/// takes no more bits already stays as it is.
dtype type_kept(dtype from, std::optional<dtype> keep);

} // namespace troupe::engine
