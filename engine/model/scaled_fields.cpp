#include "engine/model/scaled_fields.hpp"

#include <algorithm>
#include <iterator>
#include <tuple>
#include <utility>

#include "engine/model/limits.hpp"

namespace troupe::engine {

namespace {

/// Of a model with many experts each is named.
constexpr size_t named_modules_max = 1'000'000;

/// Refuses a value that is not supported; `known` = what is.
void refuse(json_fields& fields, const char* key, const std::string& value, const char* known) {
  fields.fail(key, "is '" + value.substr(0, 60) + "', but supported " + known, errc::unsupported);
}

/// The sides of the blocks that share a scale; nothing if there are none.
std::optional<std::pair<int64_t, int64_t>> read_block(json_fields& fields, const char* key) {
  if (!fields.has(key))
    return std::nullopt;
  const auto sides = fields.ids(key, limits::width_max);
  if (sides.size() == 2 && sides[0] > 0 && sides[1] > 0)
    return std::pair{int64_t{sides[0]}, int64_t{sides[1]}};
  fields.fail(key, "must be two numbers of weights, as [128, 128]");
  return std::nullopt;
}

/// Where the scales of a group's weights are.
void read_strategy(json_fields& weights, scaled_form& out) {
  const auto group = weights.integer("group_size", -1, limits::width_max);
  const auto fallback = !group ? "tensor" : *group > 0 ? "group" : "channel";
  const auto strategy = weights.string("strategy").value_or(fallback);
  if (strategy == "tensor")
    return;
  if (strategy == "block") {
    const auto sides = read_block(weights, "block_structure");
    if (!sides)
      weights.fail("block_structure", "is missing");
    else
      std::tie(out.rows, out.cols) = *sides;
    return;
  }
  out.rows = 1;
  if (strategy == "channel")
    return;
  if (strategy != "group")
    return refuse(weights, "strategy", strategy, "are tensor, channel, group and block");
  out.cols = group.value_or(0);
  if (out.cols < 1)
    weights.fail("group_size", "must be a number of weights where strategy is group");
}

/// The form of a group's weights in files of that format; nothing, with a failure, if it is not
/// supported.
std::optional<scaled_form> read_form(json_fields& weights, const std::string& format) {
  const auto bits = weights.integer("num_bits", 1, 64).value_or(8);
  const auto type = weights.string("type").value_or("int");
  scaled_form out;
  if (type == "float" && bits == 8 && format != "pack-quantized" && format != "int-quantized")
    out.code = weight_code::f8_e4m3;
  else if (type == "int" && bits == 8 && format != "float-quantized")
    out.code = format == "pack-quantized" ? weight_code::packed8 : weight_code::int8;
  else if (type == "int" && bits == 4 && format == "pack-quantized")
    out.code = weight_code::packed4;
  else {
    refuse(weights, "num_bits", std::to_string(bits) + " (" + type + ", " + format + ")",
           "are 8 (float, float-quantized), 8 (int, int-quantized), 4 and 8 (int, "
           "pack-quantized)");
    return std::nullopt;
  }
  out.symmetric = weights.boolean_or("symmetric", true);
  read_strategy(weights, out);
  return out;
}

/// Whether weights of that format can be read; otherwise a failure is recorded.
bool is_format(json_fields& fields, const std::string& format) {
  constexpr std::string_view known[] = {"float-quantized", "int-quantized", "naive-quantized",
                                        "pack-quantized"};
  if (std::ranges::find(known, format) != std::end(known))
    return true;
  refuse(fields, "format", format,
         "are float-quantized, int-quantized, naive-quantized and pack-quantized");
  return false;
}

void read_group(json_fields& group, const std::string& origin, const std::string& path,
                const std::string& format, packed_config& out) {
  const auto* object = group.object("weights");
  const auto own = group.string("format").value_or(format);
  if (!object || own == "dense" || !is_format(group, own))
    return;
  json_fields weights{*object, origin, path + "weights."};
  const auto form = read_form(weights, own);
  group.adopt(weights);
  if (!form)
    return;
  auto& added = out.forms.emplace_back(*form);
  added.targets = group.strings("targets", named_modules_max);
  // By their class, which all matrices of layers have.
  if (std::ranges::find(added.targets, "Linear") != added.targets.end())
    added.targets.clear();
}

} // namespace

packed_config read_fp8(json_fields& inner) {
  packed_config out;
  out.packing = weight_packing::scaled;
  // Either name, as tools choose.
  for (const auto* key : {"modules_to_not_convert", "ignored_layers"})
    for (auto& name : inner.strings(key, named_modules_max))
      out.left_alone.push_back(std::move(name));
  const auto format = inner.string("fmt").value_or("e4m3");
  if (format != "e4m3")
    refuse(inner, "fmt", format, "is e4m3");
  scaled_form form;
  if (const auto sides = read_block(inner, "weight_block_size")) {
    std::tie(form.rows, form.cols) = *sides;
    out.forms.push_back(form);
    return out;
  }
  out.forms.push_back(form);
  form.rows = 1; // some tools keep a scale for each row and say nothing of it
  out.forms.push_back(form);
  return out;
}

packed_config read_compressed(json_fields& inner, const std::string& origin) {
  constexpr size_t groups_max = 256;
  packed_config out;
  out.packing = weight_packing::scaled;
  out.left_alone = inner.strings("ignore", named_modules_max);
  const auto format = inner.string("format").value_or("dense");
  if (const auto* sparse = inner.object("sparsity_config")) {
    json_fields fields{*sparse, origin, "quantization_config.sparsity_config."};
    const auto kind = fields.string("format").value_or("dense");
    if (kind != "dense")
      refuse(fields, "format", kind, "is dense");
    inner.adopt(fields);
  }
  if (const auto* turned = inner.object("transform_config"); turned && !turned->empty())
    inner.fail("transform_config",
               "asks for turned weights and activations, which are not supported",
               errc::unsupported);
  const auto* groups = inner.object("config_groups");
  if (groups && groups->size() > groups_max)
    inner.fail("config_groups", "has more than " + std::to_string(groups_max) + " groups");
  else if (groups)
    for (const auto& [name, value] : groups->items()) {
      json_fields one{*groups, origin, "quantization_config.config_groups."};
      if (const auto* object = one.object(name.c_str())) {
        const auto path = "quantization_config.config_groups." + name.substr(0, 60) + ".";
        json_fields group{*object, origin, path};
        read_group(group, origin, path, format, out);
        one.adopt(group);
      }
      inner.adopt(one);
    }
  return out;
}

} // namespace troupe::engine
