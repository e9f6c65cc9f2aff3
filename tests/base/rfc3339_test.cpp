#include "base/rfc3339.hpp"

#include <gtest/gtest.h>

namespace troupe {
namespace {

using namespace std::chrono;

// The examples of RFC 3339, section 5.8, and their seconds since 1970.
TEST(rfc3339, reads_the_examples_of_the_standard) {
  const auto at = [](int64_t ms) { return system_clock::time_point{milliseconds{ms}}; };
  EXPECT_EQ(parse_rfc3339("1985-04-12T23:20:50.52Z"), at(482196050520));
  EXPECT_EQ(parse_rfc3339("1996-12-19T16:39:57-08:00"), at(851042397000));
  EXPECT_EQ(parse_rfc3339("1990-12-31T23:59:60Z"), at(662688000000)) << "a leap second";
  EXPECT_EQ(parse_rfc3339("1937-01-01T12:00:27.87+00:20"), at(-1041337172130));
}

TEST(rfc3339, refuses_what_is_no_time) {
  for (const char* text :
       {"", "now", "2026-13-01T00:00:00Z", "2026-02-29T00:00:00Z", "2026-01-01T24:00:00Z",
        "2026-01-01T00:00:00", "2026-01-01T00:00:00+1", "2026-01-01T00:00:00Zz", "2026-01-01"})
    EXPECT_EQ(parse_rfc3339(text), std::nullopt) << text;
}

TEST(rfc3339, what_is_written_is_read_again) {
  for (const int64_t ms : {0ll, 1ll, 951827696789ll, 1767323045678ll, -1ll, 4102444799999ll}) {
    const system_clock::time_point when{milliseconds{ms}};
    EXPECT_EQ(parse_rfc3339(format_rfc3339(when)), when) << format_rfc3339(when);
  }
  EXPECT_EQ(format_rfc3339(system_clock::time_point{milliseconds{1767323045678}}),
            "2026-01-02T03:04:05.678Z");
}

} // namespace
} // namespace troupe
