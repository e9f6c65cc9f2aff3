#include "engine/model/packed_fields.hpp"

#include "engine/model/limits.hpp"
#include "engine/model/scaled_fields.hpp"

namespace troupe::engine {

namespace {

std::string lower(std::string text) {
  for (char& c : text)
    c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return text;
}

/// How the integers of a GPTQ checkpoint are meant.
void read_gptq(json_fields& inner, packed_config& out) {
  out.packing = weight_packing::gptq;
  const auto format = lower(inner.string("checkpoint_format").value_or("gptq"));
  if (format == "gptq_v2")
    out.zero_offset = 0;
  else if (format != "gptq")
    inner.fail("checkpoint_format",
               "is '" + format.substr(0, 60) + "', but supported are gptq and gptq_v2",
               errc::unsupported);
  out.symmetric = inner.boolean_or("sym", true);
  out.act_order = inner.boolean_or("desc_act", false);
  const auto* dynamic = inner.object("dynamic");
  if (dynamic && !dynamic->empty())
    inner.fail("dynamic", "treats some weights otherwise, which is not supported",
               errc::unsupported);
}

void read_awq(json_fields& inner, packed_config& out) {
  out.packing = weight_packing::awq;
  out.zero_offset = 0;
  const auto version = lower(inner.string("version").value_or("gemm"));
  if (version != "gemm")
    inner.fail("version", "is '" + version.substr(0, 60) + "', but supported is gemm",
               errc::unsupported);
  constexpr size_t modules_max = 1'000'000;
  out.left_alone = inner.strings("modules_to_not_convert", modules_max);
  if (!inner.boolean_or("zero_point", true))
    inner.fail("zero_point", "is false, which is not supported", errc::unsupported);
}

/// What AWQ and GPTQ share.
void read_words(json_fields& inner, packed_config& out) {
  // The usual name first; AWQ's own files have another.
  const auto bits = inner.integer(inner.has("bits") ? "bits" : "w_bit", 1, 64).value_or(4);
  if (bits != 4)
    inner.fail("bits", "is " + std::to_string(bits) + ", but supported is 4", errc::unsupported);
  out.group_size =
      inner.integer(inner.has("group_size") ? "group_size" : "q_group_size", -1, limits::width_max)
          .value_or(128);
  if (out.group_size == 0)
    inner.fail("group_size", "is 0; it must be -1 or a number of weights");
}

} // namespace

std::optional<packed_config> read_packed(json_fields& fields, const std::string& origin) {
  const auto* object = fields.object("quantization_config");
  if (!object)
    return std::nullopt;
  json_fields inner{*object, origin, "quantization_config."};
  packed_config out;
  const auto method = lower(inner.string("quant_method").value_or(""));
  if (method == "gptq") {
    read_gptq(inner, out);
    read_words(inner, out);
  } else if (method == "awq") {
    read_awq(inner, out);
    read_words(inner, out);
  } else if (method == "fp8") {
    out = read_fp8(inner);
  } else if (method == "compressed-tensors") {
    out = read_compressed(inner, origin);
  } else {
    inner.fail("quant_method",
               "is '" + method.substr(0, 60) +
                   "', but supported are awq, gptq, fp8 and compressed-tensors; use those or the "
                   "original weights",
               errc::unsupported);
  }
  fields.adopt(inner);
  if (out.packing == weight_packing::scaled && out.forms.empty())
    return std::nullopt;
  return out;
}

} // namespace troupe::engine
