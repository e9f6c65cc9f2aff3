#include "gpu/cpu/amx.hpp"

#include <cpuid.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <memory>
#include <vector>

#include "base/half.hpp"
#include "gpu/cpu/panels.hpp"
#include "gpu/cpu/scratch.hpp"

namespace troupe::gpu::cpu {
namespace {

bool processor_has_amx() {
  constexpr unsigned bf16_bit = 1u << 22, tile_bit = 1u << 24, int8_bit = 1u << 25;
  constexpr unsigned all = bf16_bit | tile_bit | int8_bit;
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d & all) == all;
}

/// Tile registers are off until a process asks for them.
bool permitted() {
  constexpr int request_permission = 0x1023; // ARCH_REQ_XCOMP_PERM
  constexpr int tile_data = 18;              // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

/// Products whose rows, columns and k fill no tile. Everything is allocated before it runs, so that
/// `agrees` may run in a child of a process with threads.
class trial {
public:
  explicit trial(dtype type)
      : type_{type}, k_{layout_of(type).elements == 256 ? 256 : 96},
        x_(static_cast<size_t>(rows * k_)) {
    std::vector<unsigned char> plain(static_cast<size_t>(cols * block_row_bytes(type, k_)));
    for (auto& byte : plain)
      byte = static_cast<unsigned char>(next());
    // Scales, and bf16 numbers, of ordinary size.
    const auto row_bytes = block_row_bytes(type, k_);
    const auto step = type == dtype::bf16 ? int64_t{2} : int64_t{layout_of(type).bytes};
    for (int64_t at = 0; at < cols * row_bytes; at += step)
      for (const auto scale : scales_of(type))
        plain[static_cast<size_t>(at + scale + 1)] = 0x3c;
    panels_.resize(static_cast<size_t>(3 * panel_rows * row_bytes));
    for (int64_t row = 0; row < cols; row += panel_rows)
      pack_panel(type, plain.data() + row * row_bytes, std::min(panel_rows, cols - row), k_,
                 panels_.data() + row * row_bytes);
    for (auto& one : x_)
      one = static_cast<float>(next() % 255) / 64 - 2;
    bf16_.resize(x_.size());
    for (size_t i = 0; i < bf16_.size(); ++i)
      bf16_[i] = float_to_bf16(x_[i]);
    bytes_.resize(x_.size() / 32);
    scratch_.get<void>(linear_scratch_bytes);
  }

  bool agrees(const kernel_table& kernels, const kernel_table& proven) {
    kernels_of(proven, want_);
    kernels_of(kernels, got_);
    for (size_t i = 0; i < sizes; ++i)
      if (!(std::abs(got_[i] - want_[i]) <= 1e-4f * (1 + std::abs(want_[i]))))
        return false;
    return true;
  }

private:
  static constexpr int64_t rows = 37, cols = 43;
  static constexpr size_t sizes = rows * cols;

  /// Where a block has numbers in f16, or bf16 has its own.
  static std::vector<int64_t> scales_of(dtype type) {
    switch (type) {
    case dtype::q4_1:
    case dtype::q5_1:
    case dtype::q4_k:
    case dtype::q5_k:
      return {0, 2};
    case dtype::q6_k:
      return {208};
    default:
      return {0};
    }
  }

  unsigned next() { return (state_ = state_ * 1664525u + 1013904223u) >> 16; }

  void kernels_of(const kernel_table& table, float* out) {
    panel_job job{};
    job.blocks = k_ / 32;
    job.panels = panels_.data();
    job.panel_bytes = panel_rows * block_row_bytes(type_, k_);
    job.out = out;
    job.out_stride = cols;
    job.scratch = scratch_.get<void>(linear_scratch_bytes);
    job.x = bf16_.data();
    job.x_row_bytes = k_ * 2;
    if (is_blocks(type_)) {
      for (int64_t row = 0; row < rows; ++row)
        table.to_bytes(x_.data() + row * k_, added_to(type_), type_ == dtype::q6_k,
                       bytes_.data() + row * job.blocks, k_);
      job.x = bytes_.data();
      job.x_row_bytes = job.blocks * static_cast<int64_t>(sizeof(activation_block));
    }
    table.linear_panels[panel_kind_of(type_)](job, {0, rows, 0, cols});
  }

  dtype type_;
  int64_t k_;
  unsigned state_ = 1;
  std::vector<unsigned char> panels_;
  std::vector<float> x_;
  std::vector<uint16_t> bf16_;
  std::vector<activation_block> bytes_;
  scratch scratch_;
  float want_[sizes], got_[sizes];
};

constexpr dtype tried_types[] = {dtype::bf16, dtype::q8_0, dtype::q4_0, dtype::q4_1, dtype::q5_0,
                                 dtype::q5_1, dtype::q4_k, dtype::q5_k, dtype::q6_k};

} // namespace

bool true_in_child(const std::function<bool()>& body) {
  constexpr unsigned seconds_max = 10;
  const pid_t child = fork();
  if (child < 0)
    return false;
  if (child == 0) {
    alarm(seconds_max);
    _exit(body() ? 0 : 1);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR)
      return false;
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool panels_agree(const kernel_table& kernels, const kernel_table& proven) {
  for (const auto type : tried_types)
    if (!trial{type}.agrees(kernels, proven))
      return false;
  return true;
}

bool amx_works(const kernel_table& kernels, const kernel_table& proven) {
  static const bool works = [&] {
    if (!processor_has_amx() || !permitted())
      return false;
    std::vector<std::unique_ptr<trial>> trials;
    for (const auto type : tried_types)
      trials.push_back(std::make_unique<trial>(type));
    return true_in_child([&] {
      return std::all_of(trials.begin(), trials.end(),
                         [&](const auto& one) { return one->agrees(kernels, proven); });
    });
  }();
  return works;
}

} // namespace troupe::gpu::cpu
