#include "engine/model/weight_binder.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>

#include "engine/errors.hpp"

namespace troupe::engine {

namespace {

/// Rows are made in pieces of about this many bytes: enough to occupy a thread for a while, small
/// enough that what they came from and what they become are never in memory twice.
constexpr uint64_t piece_bytes = uint64_t{1} << 20;

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i)
    out += (i ? ", " : "") + std::to_string(shape[i]);
  return out + "]";
}

int64_t rows_of(const weight_spec& want) { return want.shape.size() == 1 ? 1 : want.shape[0]; }

uint64_t elements_of(const weight_spec& want) {
  return static_cast<uint64_t>(rows_of(want) * want.shape.back());
}

/// Rows that are made before they go to a device. Blocks are laid out in groups of 16 rows or fewer
/// on every device, so only the last piece may break one.
int64_t step_rows(int64_t rows, uint64_t row_bytes) {
  constexpr int64_t group = 16;
  const auto step = static_cast<int64_t>(16 * piece_bytes / row_bytes) / group * group;
  return std::min(rows, std::max(step, group));
}

/// Makes rows [first, first + count) of `found` at `to`, with all cores if there is much to do.
void make_rows(const weight_view& found, int64_t first, int64_t count, uint64_t row_bytes,
               std::byte* to) {
  const auto piece = std::max<int64_t>(1, static_cast<int64_t>(piece_bytes / row_bytes));
  std::atomic<int64_t> next{0};
  const auto work = [&] {
    for (auto at = next.fetch_add(piece); at < count; at = next.fetch_add(piece))
      found.make(first + at, std::min(piece, count - at),
                 to + static_cast<uint64_t>(at) * row_bytes);
  };
  const auto pieces = (count + piece - 1) / piece;
  const auto cores = std::max(1u, std::thread::hardware_concurrency());
  std::vector<std::jthread> helpers;
  for (int64_t i = 1; i < std::min<int64_t>(cores, pieces); ++i)
    helpers.emplace_back(work);
  work();
}

} // namespace

dtype type_kept(dtype from, std::optional<dtype> keep) {
  if (!keep || from == dtype::q4_0)
    return from;
  return *keep;
}

std::optional<weight_view> weight_binder::find(const weight_spec& want) {
  if (error_)
    return std::nullopt;
  auto found = lookup_(want.name);
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
  const bool blocks = is_blocks(type) && want.shape.size() == 2 &&
                      want.shape[1] % static_cast<int64_t>(block_elements) == 0;
  if (type == dtype::f32 || type == dtype::f16 || type == dtype::bf16 || blocks)
    return found;
  error_ = caf::make_error(errc::wrong_tensor,
                           "tensor " + want.name + " holds " + std::string{to_string(type)} +
                               ", but weights must be f32, f16, bf16 or, if linear, q8_0 or q4_0");
  return std::nullopt;
}

gpu::weight weight_binder::plain(const weight_spec& want) {
  const auto found = find(want);
  if (!found)
    return {};
  return found->make ? made(want, *found) : in_place(want, *found);
}

gpu::weight weight_binder::linear(const weight_spec& want, std::optional<dtype> keep) {
  const auto found = find(want);
  if (!found)
    return {};
  const auto type = type_kept(found->type, keep);
  const bool laid_out = want.shape[1] % static_cast<int64_t>(block_elements) == 0 &&
                        device_.best_layout(type) != gpu::weight_layout::rows;
  if (type != found->type || laid_out)
    return converted(want, *found, type);
  return found->make ? made(want, *found) : in_place(want, *found);
}

bool weight_binder::has_bytes(const weight_view& found) {
  if (found.wait)
    error_ = found.wait();
  return !error_;
}

std::optional<gpu::buffer> weight_binder::allocate(const weight_spec& want, size_t bytes) {
  auto out = device_.allocate(bytes);
  if (out)
    return std::move(*out);
  error_ = caf::make_error(errc::out_of_memory, "placing tensor " + want.name + " (" +
                                                    std::to_string(bytes) + " bytes) on " +
                                                    device_.name() + ": " + describe(out.error()));
  return std::nullopt;
}

gpu::weight weight_binder::kept(const weight_spec& want, dtype type, gpu::buffer memory) {
  const gpu::weight out{memory.data(), type, rows_of(want), want.shape.back()};
  size_bytes_ += bytes_of(type, elements_of(want));
  copies_.push_back(std::move(memory));
  return out;
}

gpu::weight weight_binder::converted(const weight_spec& want, const weight_view& found, dtype to) {
  if (!has_bytes(found))
    return {};
  const auto rows = want.shape[0], cols = want.shape[1];
  const auto row_bytes = bytes_of(found.type, static_cast<uint64_t>(cols));
  auto blocks = allocate(want, bytes_of(to, elements_of(want)));
  if (!blocks)
    return {};
  // What is in host memory already goes at once; the rest in pieces, so that it is never whole.
  const auto layout = device_.best_layout(to);
  const bool whole = !found.make;
  const auto step = whole ? rows : step_rows(rows, row_bytes);
  std::vector<std::byte> host(whole ? 0 : static_cast<uint64_t>(step) * row_bytes);
  std::optional<gpu::buffer> staged;
  if (!device_.reads_host_memory()) {
    staged = allocate(want, static_cast<uint64_t>(step) * row_bytes);
    if (!staged)
      return {};
  }
  for (int64_t row = 0; row < rows && !error_; row += step) {
    const auto count = std::min(step, rows - row);
    const void* from = found.data;
    if (!whole) {
      make_rows(found, row, count, row_bytes, host.data());
      from = host.data();
    }
    if (staged) {
      device_.copy_to_device(staged->data(), from, static_cast<uint64_t>(count) * row_bytes);
      from = staged->data();
    }
    auto* out = blocks->as<std::byte>() + bytes_of(to, static_cast<uint64_t>(row * cols));
    device_.quantize({{from, found.type, count, cols}, out, to, layout});
    error_ = device_.synchronize();
  }
  if (found.drop)
    found.drop();
  auto out = kept(want, to, std::move(*blocks));
  out.layout = layout;
  return out;
}

gpu::weight weight_binder::made(const weight_spec& want, const weight_view& found) {
  const auto bytes = bytes_of(found.type, elements_of(want));
  // A vector's rows are its elements.
  const auto rows = want.shape[0];
  const auto row_bytes = bytes / static_cast<uint64_t>(rows);
  auto memory = allocate(want, bytes);
  if (!memory)
    return {};
  if (device_.reads_host_memory()) {
    make_rows(found, 0, rows, row_bytes, memory->as<std::byte>());
    if (found.drop)
      found.drop();
    return kept(want, found.type, std::move(*memory));
  }
  const auto step = step_rows(rows, row_bytes);
  std::vector<std::byte> host(static_cast<uint64_t>(step) * row_bytes);
  for (int64_t row = 0; row < rows && !error_; row += step) {
    const auto count = std::min(step, rows - row);
    make_rows(found, row, count, row_bytes, host.data());
    device_.copy_to_device(memory->as<std::byte>() + static_cast<uint64_t>(row) * row_bytes,
                           host.data(), static_cast<uint64_t>(count) * row_bytes);
    error_ = device_.synchronize(); // `host` is about to be written again
  }
  if (found.drop)
    found.drop();
  return kept(want, found.type, std::move(*memory));
}

gpu::weight weight_binder::in_place(const weight_spec& want, const weight_view& found) {
  const auto bytes = bytes_of(found.type, elements_of(want));
  // Blocks begin with a 16-bit scale.
  const auto alignment = is_blocks(found.type) ? size_t{2} : size_of(found.type);
  if (device_.reads_host_memory() && reinterpret_cast<uintptr_t>(found.data) % alignment == 0) {
    size_bytes_ += bytes;
    return {found.data, found.type, rows_of(want), want.shape.back()};
  }
  if (!has_bytes(found))
    return {};
  auto memory = allocate(want, bytes);
  if (!memory)
    return {};
  device_.copy_to_device(memory->data(), found.data, bytes);
  return kept(want, found.type, std::move(*memory));
}

} // namespace troupe::engine
