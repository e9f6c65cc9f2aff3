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

TEST(half, every_f8_value_survives_a_round_trip) {
  for (uint32_t bits = 0; bits < 0x100u; ++bits) {
    const float value = f8_e4m3_to_float(static_cast<uint8_t>(bits));
    if (std::isnan(value))
      EXPECT_TRUE(std::isnan(f8_e4m3_to_float(float_to_f8_e4m3(value))));
    else
      EXPECT_EQ(float_to_f8_e4m3(value), bits);
  }
}

TEST(half, f8_rounds_to_the_nearest_and_halves_to_even) {
  for (uint8_t code = 0; code < 0x7e; ++code) {
    const auto next = static_cast<uint8_t>(code + 1);
    const float half = (f8_e4m3_to_float(code) + f8_e4m3_to_float(next)) / 2;
    EXPECT_EQ(float_to_f8_e4m3(half), code % 2 == 0 ? code : next);
    EXPECT_EQ(float_to_f8_e4m3(std::nextafter(half, 0.0f)), code);
    EXPECT_EQ(float_to_f8_e4m3(-std::nextafter(half, 500.0f)), 0x80 | next);
  }
}

TEST(half, what_is_beyond_the_largest_f8_becomes_that) {
  EXPECT_EQ(float_to_f8_e4m3(465.0f), 0x7e);
  EXPECT_EQ(float_to_f8_e4m3(-std::numeric_limits<float>::infinity()), 0xfe);
  EXPECT_EQ(float_to_f8_e4m3(1e-44f), 0);
}

} // namespace troupe
