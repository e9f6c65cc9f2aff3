#include "base/half.hpp"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

namespace troupe {

TEST(half, every_f16_value_survives_a_round_trip) {
  for (uint32_t bits = 0; bits < 0x10000u; ++bits) {
    const float value = f16_to_float(static_cast<uint16_t>(bits));
    if (std::isnan(value))
      EXPECT_TRUE(std::isnan(f16_to_float(float_to_f16(value))));
    else
      EXPECT_EQ(float_to_f16(value), bits);
  }
}

TEST(half, every_bf16_value_survives_a_round_trip) {
  for (uint32_t bits = 0; bits < 0x10000u; ++bits) {
    const float value = bf16_to_float(static_cast<uint16_t>(bits));
    if (std::isnan(value))
      EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(value))));
    else
      EXPECT_EQ(float_to_bf16(value), bits);
  }
}

TEST(half, ties_round_to_even) {
  EXPECT_EQ(float_to_f16(1.0f + 0x1p-11f), 0x3c00);     // halfway between 1 and the next: 1 is even
  EXPECT_EQ(float_to_f16(1.0f + 3 * 0x1p-11f), 0x3c02); // halfway, upper neighbour is even
  EXPECT_EQ(float_to_bf16(1.0f + 0x1p-8f), 0x3f80);
  EXPECT_EQ(float_to_bf16(1.0f + 3 * 0x1p-8f), 0x3f82);
}

TEST(half, f16_overflow_becomes_infinity) {
  EXPECT_EQ(float_to_f16(65519.0f), 0x7bff);
  EXPECT_EQ(float_to_f16(65520.0f), 0x7c00);
  EXPECT_EQ(float_to_f16(-std::numeric_limits<float>::infinity()), 0xfc00);
}

} // namespace troupe
