#include "base/text.hpp"

#include <gtest/gtest.h>

#include "base/host_port.hpp"

namespace troupe {

TEST(text, only_ascii_letters_become_small) {
  EXPECT_EQ(ascii_lower("AZ az @[ \xc3\x89"), "az az @[ \xc3\x89");
}

TEST(text, compares_names_of_any_case) {
  EXPECT_TRUE(equal_ignoring_case("Content-Type", "content-TYPE"));
  EXPECT_FALSE(equal_ignoring_case("content-type", "content-typ"));
  EXPECT_FALSE(equal_ignoring_case("[", "{")) << "32 apart, but no letters";
  EXPECT_TRUE(equal_ignoring_case("", ""));
}

TEST(host_port, only_ipv6_hosts_stand_in_brackets) {
  EXPECT_EQ(to_string(host_port{"localhost", 80}), "localhost:80");
  EXPECT_EQ(to_string(host_port{"::1", 11500}), "[::1]:11500");
}

} // namespace troupe
