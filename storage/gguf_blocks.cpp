#include "storage/gguf_blocks.hpp"

#include <array>

namespace troupe::storage {

std::optional<dtype> ggml_dtype(uint32_t type) {
  switch (type) {
  case 0:
    return dtype::f32;
  case 1:
    return dtype::f16;
  case 2:
    return dtype::q4_0;
  case 3:
    return dtype::q4_1;
  case 6:
    return dtype::q5_0;
  case 7:
    return dtype::q5_1;
  case 8:
    return dtype::q8_0;
  case 12:
    return dtype::q4_k;
  case 13:
    return dtype::q5_k;
  case 14:
    return dtype::q6_k;
  case 30:
    return dtype::bf16;
  }
  return std::nullopt;
}

std::string_view ggml_type_name(uint32_t type) {
  static constexpr std::array<std::string_view, 40> names{
      "F32",     "F16",    "Q4_0",    "Q4_1",  "",       "",      "Q5_0",  "Q5_1",
      "Q8_0",    "Q8_1",   "Q2_K",    "Q3_K",  "Q4_K",   "Q5_K",  "Q6_K",  "Q8_K",
      "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS",
      "I8",      "I16",    "I32",     "I64",   "F64",    "IQ1_M", "BF16",  "",
      "",        "",       "TQ1_0",   "TQ2_0", "",       "",      "",      "MXFP4"};
  return type < names.size() ? names[type] : std::string_view{};
}

} // namespace troupe::storage
