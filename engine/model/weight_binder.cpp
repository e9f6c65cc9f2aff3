#include "engine/model/weight_binder.hpp"

#include <utility>

#include "engine/errors.hpp"
#include "engine/model/decoded_view.hpp"

namespace troupe::engine {

namespace {

int64_t rows_of(const weight_spec& want) { return want.shape.size() == 1 ? 1 : want.shape[0]; }

bool is_whole_blocks(dtype type, const std::vector<int64_t>& shape) {
  return is_blocks(type) && shape.size() == 2 &&
         shape[1] % static_cast<int64_t>(layout_of(type).elements) == 0;
}

} // namespace

dtype type_kept(dtype from, std::optional<dtype> keep) {
  constexpr uint64_t some = 256; // whole blocks of every type
  if (!keep || bytes_of(from, some) <= bytes_of(*keep, some))
    return from;
  return *keep;
}

std::optional<weight_view> weight_binder::find(const weight_spec& want) {
  if (error_)
    return std::nullopt;
  auto found = lookup_(want.name);
  if (want.name != last_name_) {
    ++tensors_;
    lies_there_ = false;
  } else if (!jobs_.empty() && jobs_.back().tensors == tensors_) {
    jobs_.back().last_use = false;
  }
  last_name_ = want.name;
  if (!found) {
    error_ = caf::make_error(errc::missing_tensor, "the checkpoint has no tensor " + want.name +
                                                       ", which its configuration asks for");
    return std::nullopt;
  }
  if (found->shape != want.shape) {
    error_ = caf::make_error(errc::wrong_tensor,
                             "tensor " + want.name + " has shape " + shape_text(found->shape) +
                                 ", but its configuration asks for " + shape_text(want.shape));
    return std::nullopt;
  }
  const auto type = found->type;
  if (is_whole_blocks(type, want.shape) && !device_.takes(type))
    return decoded(std::move(*found));
  if (type == dtype::f32 || type == dtype::f16 || type == dtype::bf16 ||
      is_whole_blocks(type, want.shape))
    return found;
  error_ = caf::make_error(errc::wrong_tensor,
                           "tensor " + want.name + " holds " + std::string{to_string(type)} +
                               ", but weights must be f32, f16, bf16 or, if linear, blocks");
  return std::nullopt;
}

gpu::weight weight_binder::plain(const weight_spec& want) {
  const auto found = find(want);
  return found ? place(want, *found, found->type, gpu::weight_layout::rows) : gpu::weight{};
}

gpu::weight weight_binder::linear(const weight_spec& want, std::optional<dtype> keep) {
  const auto found = find(want);
  if (!found)
    return {};
  const auto type = type_kept(found->type, keep);
  const bool whole_blocks = want.shape[1] % static_cast<int64_t>(block_elements) == 0;
  return place(want, *found, type,
               whole_blocks ? device_.best_layout(type) : gpu::weight_layout::rows);
}

gpu::weight weight_binder::place(const weight_spec& want, const weight_view& found, dtype type,
                                 gpu::weight_layout layout) {
  weight_job job{.from = found,
                 .to = {nullptr, type, rows_of(want), want.shape.back(), layout},
                 .tensors = tensors_};
  const auto bytes = job.size_bytes();
  // Blocks begin with a 16-bit scale.
  const auto alignment = is_blocks(type) ? size_t{2} : size_of(type);
  const bool in_place = type == found.type && layout == gpu::weight_layout::rows && !found.make &&
                        !found.transient && device_.reads_host_memory() &&
                        reinterpret_cast<uintptr_t>(found.data) % alignment == 0;
  if (in_place) {
    job.to.data = found.data;
    lies_there_ = true;
  } else {
    auto memory = device_.allocate(bytes);
    if (!memory) {
      error_ =
          caf::make_error(errc::out_of_memory,
                          "placing tensor " + want.name + " (" + std::to_string(bytes) +
                              " bytes) on " + device_.name() + ": " + describe(memory.error()));
      return {};
    }
    job.memory = memory->data();
    job.to.data = job.memory;
    memory_.push_back(std::move(*memory));
  }
  size_bytes_ += bytes;
  job.last_use = !lies_there_;
  const auto out = job.to;
  if (job.from.wait)
    jobs_.push_back(std::move(job));
  else if (job.memory != nullptr)
    error_ = run_job(job, device_); // one by one, so that no two are in memory twice
  return out;
}

} // namespace troupe::engine
