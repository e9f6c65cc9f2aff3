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

// The clock covers 1677-09-21 to 2262-04-11; one second to either side of its ends.
TEST(rfc3339, holds_times_beyond_the_clock_at_its_ends) {
  for (const char* text : {"9999-12-31T23:59:59.999Z", "6026-12-31T00:00:00-23:59",
                           "2262-04-11T23:47:17Z", "2262-04-12T00:47:17+01:00"})
    EXPECT_EQ(parse_rfc3339(text), system_clock::time_point::max()) << text;
  for (const char* text :
       {"0000-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "1677-09-21T00:12:43Z"})
    EXPECT_EQ(parse_rfc3339(text), system_clock::time_point::min()) << text;
  EXPECT_LT(parse_rfc3339("2262-04-11T23:47:16Z"), system_clock::time_point::max());
  EXPECT_GT(parse_rfc3339("1677-09-21T00:12:44Z"), system_clock::time_point::min());
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
