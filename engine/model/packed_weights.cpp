#include "engine/model/packed_weights.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "base/half.hpp"
#include "engine/errors.hpp"
#include "engine/model/module_names.hpp"
#include "engine/model/scaled_matrix.hpp"
#include "engine/model/scaled_weights.hpp"
#include "engine/model/weights.hpp"

namespace troupe::engine {

namespace {

constexpr int64_t per_word = 8;
/// Where AWQ keeps output n % 8.
constexpr std::array<int, per_word> awq_nibble{0, 4, 1, 5, 2, 6, 3, 7};
constexpr auto block = static_cast<int64_t>(block_elements);

uint32_t word_at(const void* words, int64_t i) {
  uint32_t out = 0;
  std::memcpy(&out, static_cast<const std::byte*>(words) + i * 4, sizeof out);
  return out;
}

/// What the names of its parts begin with.
std::string base_of(const weight_spec& want) {
  return want.name.substr(0, want.name.size() - std::string_view{"weight"}.size());
}

/// One weight matrix in its packed form, checked.
struct packed_matrix {
  weight_packing packing = weight_packing::gptq;
  int64_t outputs = 0, inputs = 0, groups = 0;
  int zero_offset = 1;
  weight_view qweight, qzeros, scales;
  std::optional<weight_view> g_idx;
  std::vector<int32_t> group; ///< of each input
  dtype type = dtype::bf16;   ///< what it becomes

  int nibble(int64_t n) const {
    return packing == weight_packing::awq ? awq_nibble[static_cast<size_t>(n % per_word)]
                                          : static_cast<int>(n % per_word);
  }
  int value(int64_t n, int64_t k) const {
    const auto word = packing == weight_packing::awq
                          ? word_at(qweight.data, k * (outputs / per_word) + n / per_word)
                          : word_at(qweight.data, k / per_word * outputs + n);
    const auto at = packing == weight_packing::awq ? nibble(n) : static_cast<int>(k % per_word);
    return static_cast<int>(word >> (4 * at) & 15);
  }
  int zero(int64_t n, int64_t g) const {
    const auto word = word_at(qzeros.data, g * (outputs / per_word) + n / per_word);
    return (static_cast<int>(word >> (4 * nibble(n)) & 15) + zero_offset) & 15;
  }
  uint16_t scale_bits(int64_t n, int64_t g) const {
    uint16_t out = 0;
    std::memcpy(&out, static_cast<const std::byte*>(scales.data) + (g * outputs + n) * 2, 2);
    return out;
  }
  float scale(int64_t n, int64_t g) const {
    const auto bits = scale_bits(n, g);
    return scales.type == dtype::f16 ? f16_to_float(bits) : bf16_to_float(bits);
  }

  /// Says the same as blocks of q4_0: one scale for each 32 inputs, and eight stands for nothing.
  bool is_q4_0() const {
    if (inputs % block != 0 || scales.type != dtype::f16)
      return false;
    for (int64_t k = 0; k < inputs; ++k)
      if (group[static_cast<size_t>(k)] != group[static_cast<size_t>(k / block * block)])
        return false;
    for (int64_t g = 0; g < groups; ++g)
      for (int64_t n = 0; n < outputs; ++n)
        if (zero(n, g) != 8)
          return false;
    return true;
  }

  void make_bf16(int64_t first, int64_t count, std::byte* to) const {
    // Words lie along the outputs: all rows of a piece advance together.
    std::vector<float> scale_of(static_cast<size_t>(count));
    std::vector<int> zero_of(static_cast<size_t>(count));
    int32_t known = -1;
    for (int64_t k = 0; k < inputs; ++k) {
      const auto g = group[static_cast<size_t>(k)];
      for (int64_t i = 0; g != known && i < count; ++i) {
        scale_of[static_cast<size_t>(i)] = scale(first + i, g);
        zero_of[static_cast<size_t>(i)] = zero(first + i, g);
      }
      known = g;
      for (int64_t i = 0; i < count; ++i) {
        const auto steps = value(first + i, k) - zero_of[static_cast<size_t>(i)];
        const auto bits =
            float_to_bf16(scale_of[static_cast<size_t>(i)] * static_cast<float>(steps));
        std::memcpy(to + (i * inputs + k) * 2, &bits, sizeof bits);
      }
    }
  }

  void make_q4_0(int64_t first, int64_t count, std::byte* to) const {
    for (int64_t n = first; n < first + count; ++n)
      for (int64_t k = 0; k < inputs; k += block, to += bytes_of(dtype::q4_0, block_elements)) {
        const auto bits = scale_bits(n, group[static_cast<size_t>(k)]);
        std::memcpy(to, &bits, sizeof bits);
        for (int64_t i = 0; i < block / 2; ++i)
          to[2 + i] = static_cast<std::byte>(value(n, k + i) | value(n, k + block / 2 + i) << 4);
      }
  }
};

/// What a matrix of AWQ or GPTQ becomes if its tensors say what the configuration does.
dtype declared_type(const packed_config& config, const weight_spec& want, dtype scales) {
  const auto inputs = want.shape[1];
  const auto width = config.group_size < 0 ? inputs : config.group_size;
  const bool whole_blocks = inputs % block == 0 && (width % block == 0 || width >= inputs);
  return config.packing == weight_packing::gptq && config.symmetric && !config.act_order &&
                 whole_blocks && scales == dtype::f16
             ? dtype::q4_0
             : dtype::bf16;
}

/// The bytes of a part that is looked into.
caf::error await(const weight_view& part, const std::stop_token& stop = {}) {
  return part.wait ? part.wait(part.shape[0], stop) : caf::error{};
}

/// Reads the groups, which have to be there, of a matrix that names them.
caf::error read_groups(packed_matrix& out, const std::string& base) {
  if (!out.g_idx)
    return {};
  std::memcpy(out.group.data(), out.g_idx->data, out.group.size() * sizeof(int32_t));
  if (out.g_idx->drop)
    out.g_idx->drop(out.inputs);
  for (const auto g : out.group)
    if (g < 0 || g >= out.groups)
      return caf::make_error(errc::wrong_tensor, "tensor " + base + "g_idx names group " +
                                                     std::to_string(g) + " of " +
                                                     std::to_string(out.groups));
  return {};
}

/// Gathers and checks the parts of one matrix.
class packed_reader {
public:
  packed_reader(const packed_config& config, const weight_lookup& files, packed_trust trust)
      : config_{config}, files_{files}, trust_{trust} {}

  /// `want` = the matrix that the parts stand for.
  caf::expected<std::shared_ptr<packed_matrix>> read(const weight_spec& want) {
    base_ = base_of(want);
    auto out = std::make_shared<packed_matrix>();
    out->packing = config_.packing;
    out->zero_offset = config_.zero_offset;
    out->outputs = want.shape[0];
    out->inputs = want.shape[1];
    const auto width = config_.group_size < 0 ? out->inputs : config_.group_size;
    out->groups = (out->inputs + width - 1) / width;
    if (out->outputs % per_word != 0 || out->inputs % per_word != 0)
      return caf::make_error(errc::wrong_tensor, base_ + "qweight: its matrix has sides that are "
                                                         "no multiples of 8");
    const bool awq = config_.packing == weight_packing::awq;
    const std::vector<int64_t> packed = awq ? std::vector{out->inputs, out->outputs / per_word}
                                            : std::vector{out->inputs / per_word, out->outputs};
    if (auto why = part("qweight", {dtype::i32}, packed, out->qweight))
      return why;
    if (auto why =
            part("qzeros", {dtype::i32}, {out->groups, out->outputs / per_word}, out->qzeros))
      return why;
    if (auto why =
            part("scales", {dtype::f16, dtype::bf16}, {out->groups, out->outputs}, out->scales))
      return why;
    if (auto why = find_groups(*out, width))
      return why;
    if (trust_ == packed_trust::declared) {
      out->type = declared_type(config_, want, out->scales.type);
      return out;
    }
    for (const auto* one : {&out->qzeros, out->g_idx ? &*out->g_idx : nullptr})
      if (auto why = one ? await(*one) : caf::error{})
        return why;
    if (auto why = read_groups(*out, base_))
      return why;
    out->type = out->is_q4_0() ? dtype::q4_0 : dtype::bf16;
    return out;
  }

private:
  caf::error part(const char* name, std::initializer_list<dtype> types,
                  const std::vector<int64_t>& shape, weight_view& out) {
    const auto found = files_(base_ + name);
    if (!found)
      return caf::make_error(errc::missing_tensor, "the checkpoint has no tensor " + base_ + name +
                                                       ", which its quantization asks for");
    if (std::find(types.begin(), types.end(), found->type) == types.end() ||
        found->shape != shape || found->data == nullptr)
      return caf::make_error(errc::wrong_tensor,
                             "tensor " + base_ + name +
                                 " has another shape or type than its quantization asks for; is "
                                 "quantization_config in config.json that of this checkpoint?");
    out = *found;
    return {};
  }

  caf::error find_groups(packed_matrix& out, int64_t width) {
    out.group.resize(static_cast<size_t>(out.inputs));
    for (int64_t k = 0; k < out.inputs; ++k)
      out.group[static_cast<size_t>(k)] = static_cast<int32_t>(k / width);
    if (config_.packing == weight_packing::awq || !files_(base_ + "g_idx"))
      return {};
    return part("g_idx", {dtype::i32}, {out.inputs}, out.g_idx.emplace());
  }

  const packed_config& config_;
  const weight_lookup& files_;
  const packed_trust trust_;
  std::string base_;
};

/// Waits for all of a matrix whose form was only declared, and looks whether it is so.
class late_look {
public:
  late_look(std::shared_ptr<packed_matrix> matrix, std::string base)
      : matrix_{std::move(matrix)}, base_{std::move(base)} {}

  caf::error wait(const std::stop_token& stop) {
    auto& x = *matrix_;
    for (const auto* part : {x.g_idx ? &*x.g_idx : nullptr, &x.qzeros, &x.scales, &x.qweight})
      if (auto why = part != nullptr ? await(*part, stop) : caf::error{}; why)
        return why;
    if (stop.stop_requested())
      return {};
    const std::lock_guard guard{mutex_};
    if (std::exchange(looked_, true))
      return why_;
    why_ = read_groups(x, base_);
    if (!why_ && x.is_q4_0() != (x.type == dtype::q4_0))
      why_ = caf::make_error(errc::wrong_tensor, "the parts of " + base_ +
                                                     "weight are not as quantization_config in "
                                                     "config.json says (sym, desc_act)");
    return why_;
  }

private:
  const std::shared_ptr<packed_matrix> matrix_;
  const std::string base_;
  std::mutex mutex_;
  bool looked_ = false;
  caf::error why_;
};

weight_view view_of(const std::shared_ptr<const packed_matrix>& matrix) {
  weight_view out;
  out.shape = {matrix->outputs, matrix->inputs};
  const bool exact = matrix->type == dtype::q4_0;
  out.type = matrix->type;
  out.make = [matrix, exact](int64_t first, int64_t count, std::byte* to) {
    exact ? matrix->make_q4_0(first, count, to) : matrix->make_bf16(first, count, to);
  };
  // Their words lie along the outputs: each row needs all of them.
  out.drop = [matrix](int64_t rows) {
    if (rows == matrix->outputs)
      for (const auto* part : {&matrix->qweight, &matrix->scales, &matrix->qzeros})
        if (part->drop)
          part->drop(part->shape[0]);
  };
  if (matrix->qweight.wait)
    out.wait = [matrix](int64_t, const std::stop_token& stop) {
      auto why = matrix->qweight.wait(matrix->qweight.shape[0], stop);
      return why ? why : matrix->scales.wait(matrix->scales.shape[0], stop);
    };
  return out;
}

/// One of AWQ or GPTQ; nothing if it is left as it was.
caf::expected<std::optional<weight_view>> word_weight(packed_reader& reader,
                                                      const weight_spec& want,
                                                      const weight_lookup& files,
                                                      packed_trust trust) {
  if (files(want.name))
    return std::optional<weight_view>{};
  auto matrix = reader.read(want);
  if (!matrix)
    return matrix.error();
  auto view = view_of(*matrix);
  if (trust == packed_trust::declared)
    view.wait = [look = std::make_shared<late_look>(*matrix, base_of(want))](
                    int64_t, const std::stop_token& stop) { return look->wait(stop); };
  return std::optional{std::move(view)};
}

/// What the configuration says that each matrix becomes.
class declared_forms {
public:
  explicit declared_forms(const packed_config& config)
      : config_{config}, left_alone_{config.left_alone} {
    for (const auto& form : config.forms)
      targets_.emplace_back(form.targets);
  }

  /// Nothing if it is left as it was.
  std::optional<dtype> of(const weight_spec& want) const {
    auto module = base_of(want);
    module.pop_back(); // the dot
    if (left_alone_.contain(module))
      return std::nullopt;
    if (config_.packing != weight_packing::scaled)
      return declared_type(config_, want, dtype::f16);
    for (size_t i = 0; i < targets_.size(); ++i)
      if (config_.forms[i].targets.empty() || targets_[i].contain(module))
        return scaled_type(config_.forms[i], want.shape, dtype::f16);
    return std::nullopt;
  }

private:
  const packed_config& config_;
  const module_names left_alone_;
  std::vector<module_names> targets_;
};

} // namespace

bool packed_in_order(const model_config& config) {
  return !config.packed || (config.packed->packing == weight_packing::scaled &&
                            std::ranges::all_of(config.packed->forms, [](const auto& form) {
                              return form.code == weight_code::f8_e4m3;
                            }));
}

std::vector<std::string> packed_names(const model_config& config,
                                      const std::function<bool(std::string_view)>& has,
                                      packed_trust trust) {
  std::vector<std::string> first, then;
  const bool scaled = config.packed && config.packed->packing == weight_packing::scaled;
  const bool ahead = trust == packed_trust::found && !packed_in_order(config);
  const auto add = [&](std::string name, bool early) {
    if (has(name))
      (early ? first : then).push_back(std::move(name));
  };
  for (const auto& want : weight_plan(config)) {
    if (scaled && want.shape.size() == 2) {
      for (auto& part : scaled_parts(want.name))
        add(std::move(part), ahead);
      add(want.name + "_packed", false);
    }
    if (want.shape.size() != 2 || has(want.name) || scaled) {
      then.push_back(want.name);
      continue;
    }
    const auto base = base_of(want);
    for (const auto* part : {"g_idx", "qzeros"})
      add(base + part, trust == packed_trust::found);
    then.push_back(base + "qweight");
    then.push_back(base + "scales");
  }
  first.insert(first.end(), then.begin(), then.end());
  return first;
}

caf::expected<weight_lookup> packed_weights(const model_config& config, weight_lookup files,
                                            packed_trust trust) {
  auto views = std::make_shared<std::map<std::string, weight_view, std::less<>>>();
  if (!config.packed)
    return files;
  packed_reader reader{*config.packed, files, trust};
  for (const auto& want : weight_plan(config)) {
    if (want.shape.size() != 2)
      continue;
    auto view = config.packed->packing == weight_packing::scaled
                    ? scaled_weight(config.packed->forms, want, files, trust)
                    : word_weight(reader, want, files, trust);
    if (!view)
      return view.error();
    if (*view)
      views->emplace(want.name, std::move(**view));
  }
  return weight_lookup{[views, files = std::move(files)](std::string_view name) {
    const auto found = views->find(name);
    return found != views->end() ? std::optional{found->second} : files(name);
  }};
}

weight_lookup declared_weights(const model_config& config) {
  std::map<std::string, weight_view, std::less<>> views;
  std::optional<declared_forms> forms;
  if (config.packed)
    forms.emplace(*config.packed);
  for (auto& want : weight_plan(config)) {
    weight_view view;
    view.type = config.type.value_or(dtype::f16);
    // Embedding and head are left as they were.
    if (forms && want.shape.size() == 2 && want.name.find(".layers.") != std::string::npos)
      view.type = forms->of(want).value_or(view.type);
    view.shape = want.shape;
    views.emplace(want.name, std::move(view));
  }
  return [views = std::move(views)](std::string_view name) {
    const auto at = views.find(name);
    return at == views.end() ? std::nullopt : std::optional{at->second};
  };
}

} // namespace troupe::engine
