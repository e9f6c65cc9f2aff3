#include "engine/model/scaled_weights.hpp"

#include <algorithm>
#include <memory>
#include <mutex>
#include <utility>

#include "engine/errors.hpp"
#include "engine/model/scaled_matrix.hpp"

namespace troupe::engine {

namespace {

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

int64_t elements_of(const std::vector<int64_t>& shape) {
  int64_t out = 1;
  for (const auto side : shape)
    out *= side;
  return out;
}

std::vector<int64_t> codes_shape(weight_code code, const std::vector<int64_t>& of) {
  if (code == weight_code::packed4)
    return {of[0], ceil_div(of[1], 8)};
  if (code == weight_code::packed8)
    return {of[0], ceil_div(of[1], 4)};
  return of;
}

dtype codes_type(weight_code code) {
  return code == weight_code::f8_e4m3 ? dtype::f8_e4m3
         : code == weight_code::int8  ? dtype::i8
                                      : dtype::i32;
}

std::vector<int64_t> scales_shape(const scaled_form& form, const std::vector<int64_t>& of) {
  return {form.rows < 0 ? 1 : ceil_div(of[0], form.rows),
          form.cols < 0 ? 1 : ceil_div(of[1], form.cols)};
}

/// Files leave sides of one out, or have them.
bool fits(const std::vector<int64_t>& shape, const std::vector<int64_t>& want) {
  return shape == want ||
         ((want[0] == 1 || want[1] == 1) && elements_of(shape) == elements_of(want));
}

bool holds(const weight_view& part, std::initializer_list<dtype> types) {
  return part.data != nullptr && std::ranges::find(types, part.type) != types.end();
}

int64_t rows_of(const weight_view& part) { return part.shape.empty() ? 1 : part.shape[0]; }

/// The bytes of all parts that are looked into.
caf::error await_beside(const scaled_matrix& matrix, const std::stop_token& stop) {
  for (const auto* part : matrix.from().beside())
    if (auto why = part->wait ? part->wait(rows_of(*part), stop) : caf::error{})
      return why;
  return {};
}

/// Finds and checks the parts of one matrix.
class scaled_reader {
public:
  scaled_reader(const weight_spec& want, const weight_lookup& files) : want_{want}, files_{files} {}

  /// Null: the matrix is not kept so.
  caf::expected<std::shared_ptr<scaled_matrix>> read(const std::vector<scaled_form>& forms) {
    auto codes = files_(want_.name + "_packed");
    const bool packed = codes.has_value();
    if (!packed)
      codes = files_(want_.name);
    if (!codes || (!packed && codes->type != dtype::f8_e4m3 && codes->type != dtype::i8))
      return std::shared_ptr<scaled_matrix>{};
    std::vector<scaled_form> fitting;
    for (const auto& form : forms)
      if (holds(*codes, {codes_type(form.code)}) &&
          codes->shape == codes_shape(form.code, want_.shape))
        fitting.push_back(form);
    if (fitting.empty())
      return wrong(packed ? "_packed" : "", *codes,
                   "does not ask for with weights of " + shape_text(want_.shape));
    return with_scales(std::move(*codes), fitting);
  }

private:
  caf::expected<std::shared_ptr<scaled_matrix>> with_scales(weight_view codes,
                                                            const std::vector<scaled_form>& forms) {
    auto part = "_scale_inv";
    auto scales = files_(want_.name + part);
    if (!scales)
      scales = files_(want_.name + (part = "_scale"));
    if (!scales)
      return missing("_scale", "the scales of " + want_.name);
    if (!holds(*scales, {dtype::f32, dtype::f16, dtype::bf16}))
      return wrong(part, *scales, "cannot mean: supported are f32, f16 and bf16");
    for (const auto& form : forms)
      if (fits(scales->shape, scales_shape(form, want_.shape)))
        return with_rest({std::move(codes), std::move(*scales), {}, {}, {}}, form);
    return wrong(part, *scales,
                 "does not ask for, but for " +
                     shape_text(scales_shape(forms.front(), want_.shape)));
  }

  caf::expected<std::shared_ptr<scaled_matrix>> with_rest(scaled_matrix::parts parts,
                                                          const scaled_form& form) {
    if (form.code != weight_code::f8_e4m3) {
      parts.zeros = files_(want_.name + "_zero_point");
      parts.order = files_(want_.name + "_g_idx");
      parts.shape = files_(want_.name + "_shape");
    }
    if (!parts.zeros && !form.symmetric)
      return missing("_zero_point", "the zeros of " + want_.name);
    if (parts.zeros && !are_zeros(*parts.zeros, form))
      return wrong("_zero_point", *parts.zeros, "does not ask for");
    if (parts.order &&
        (!holds(*parts.order, {dtype::i32}) || parts.order->shape != std::vector{want_.shape[1]}))
      return wrong("_g_idx", *parts.order, "does not ask for");
    if (parts.shape && (!holds(*parts.shape, {dtype::i64, dtype::i32}) ||
                        parts.shape->shape != std::vector<int64_t>{2}))
      return wrong("_shape", *parts.shape, "does not ask for");
    return std::make_shared<scaled_matrix>(want_.name, want_.shape, form, std::move(parts));
  }

  bool are_zeros(const weight_view& zeros, const scaled_form& form) const {
    auto shape = scales_shape(form, want_.shape);
    if (holds(zeros, {dtype::i8}))
      return fits(zeros.shape, shape);
    const bool packed = form.code == weight_code::packed4 || form.code == weight_code::packed8;
    shape[0] = ceil_div(shape[0], form.code == weight_code::packed4 ? 8 : 4);
    return packed && holds(zeros, {dtype::i32}) && fits(zeros.shape, shape);
  }

  caf::error missing(const std::string& part, const std::string& what) const {
    return caf::make_error(errc::missing_tensor,
                           "the checkpoint has no tensor " + want_.name + part + ", " + what);
  }
  caf::error wrong(const std::string& part, const weight_view& found,
                   const std::string& what) const {
    return caf::make_error(errc::wrong_tensor,
                           "tensor " + want_.name + part + " holds " +
                               std::string{to_string(found.type)} + " " + shape_text(found.shape) +
                               ", which quantization_config in config.json " + what);
  }

  const weight_spec& want_;
  const weight_lookup& files_;
};

/// Waits for the parts beside the codes, and looks at them once.
class scaled_look {
public:
  explicit scaled_look(std::shared_ptr<scaled_matrix> matrix) : matrix_{std::move(matrix)} {}

  caf::error wait(const std::stop_token& stop) {
    if (auto why = await_beside(*matrix_, stop))
      return why;
    if (stop.stop_requested())
      return {};
    const std::lock_guard guard{mutex_};
    if (!std::exchange(looked_, true))
      why_ = matrix_->look();
    return why_;
  }

private:
  const std::shared_ptr<scaled_matrix> matrix_;
  std::mutex mutex_;
  bool looked_ = false;
  caf::error why_;
};

weight_view view_of(const std::shared_ptr<scaled_matrix>& matrix) {
  weight_view out;
  out.shape = matrix->shape();
  out.type = matrix->type();
  out.make = [matrix](int64_t first, int64_t count, std::byte* to) {
    matrix->make(first, count, to);
  };
  out.check = [matrix] { return matrix->verdict(); };
  out.drop = [matrix](int64_t rows) {
    const auto& from = matrix->from();
    if (from.codes.drop)
      from.codes.drop(rows);
    for (const auto* part : from.beside())
      if (part->drop && rows == matrix->shape()[0])
        part->drop(rows_of(*part));
  };
  return out;
}

} // namespace

caf::expected<std::optional<weight_view>> scaled_weight(const std::vector<scaled_form>& forms,
                                                        const weight_spec& want,
                                                        const weight_lookup& files,
                                                        packed_trust trust) {
  auto matrix = scaled_reader{want, files}.read(forms);
  if (!matrix)
    return matrix.error();
  if (!*matrix)
    return std::optional<weight_view>{};
  const auto& from = (*matrix)->from();
  const bool floats = from.codes.type == dtype::f8_e4m3;
  auto look = std::make_shared<scaled_look>(*matrix);
  // Only of whole numbers does the form depend on the bytes.
  if (trust == packed_trust::found && (!floats || !from.scales.wait)) {
    if (auto why = await_beside(**matrix, {}))
      return why;
    if (auto why = (*matrix)->look_and_choose())
      return why;
    look = nullptr;
  } else {
    (*matrix)->choose_unseen();
  }
  auto out = view_of(*matrix);
  if (look || from.codes.wait)
    out.wait = [look, matrix = *matrix](int64_t rows, const std::stop_token& stop) {
      if (auto why = look ? look->wait(stop) : caf::error{})
        return why;
      const auto& codes = matrix->from().codes;
      return codes.wait ? codes.wait(rows, stop) : caf::error{};
    };
  return std::optional{std::move(out)};
}

std::vector<std::string> scaled_parts(const std::string& name) {
  return {name + "_shape", name + "_g_idx", name + "_zero_point", name + "_scale_inv",
          name + "_scale"};
}

} // namespace troupe::engine
