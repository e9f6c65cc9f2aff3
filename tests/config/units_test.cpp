#include "config/units.hpp"

#include <gtest/gtest.h>

namespace troupe::config {
namespace {

using namespace std::chrono_literals;

template <class T>
std::string why(const caf::expected<T>& failed) {
  return failed ? "no error" : describe(failed.error());
}

TEST(sizes, are_exact_up_to_the_last_byte) {
  EXPECT_EQ(*parse_size("0"), 0u);
  EXPECT_EQ(*parse_size("4096"), 4096u);
  EXPECT_EQ(*parse_size("24GiB"), 24ull << 30);
  EXPECT_EQ(*parse_size("24G"), 24ull << 30);
  EXPECT_EQ(*parse_size("512 MiB"), 512ull << 20);
  EXPECT_EQ(*parse_size("10GB"), 10'000'000'000ull);
  EXPECT_EQ(*parse_size("1.5GiB"), 3ull << 29);
  EXPECT_EQ(*parse_size("18446744073709551615"), UINT64_MAX);
}

TEST(sizes, that_overflow_are_refused_not_wrapped) {
  for (const char* text : {"18446744073709551616", "17179869184GiB", "99999999999999999999999TiB"})
    EXPECT_NE(why(parse_size(text)).find("too large"), std::string::npos) << text;
}

TEST(sizes, of_the_wrong_form_are_quoted_and_corrected) {
  for (const char* text :
       {"", "GiB", "12 parsecs", "-1", "1e9", "24gib", "0x10", "1.GiB", "1 GiB "})
    EXPECT_EQ(why(parse_size(text)),
              "'" + std::string{text} + "' is not a size: write for example 512MiB or 24GiB");
}

TEST(sizes, survive_being_written_and_read_again) {
  for (const uint64_t bytes :
       {uint64_t{0}, uint64_t{1000}, uint64_t{1536} << 10, uint64_t{24} << 30, UINT64_MAX})
    EXPECT_EQ(*parse_size(format_size(bytes)), bytes) << format_size(bytes);
}

TEST(sizes, are_rounded_to_three_digits_for_people) {
  EXPECT_EQ(format_size_rounded(0), "0 B");
  EXPECT_EQ(format_size_rounded(1023), "1023 B");
  EXPECT_EQ(format_size_rounded(1536), "1.5 KiB");
  EXPECT_EQ(format_size_rounded(820ull << 10), "820 KiB");
  EXPECT_EQ(format_size_rounded((1ull << 20) - 1), "1.0 MiB");
  EXPECT_EQ(format_size_rounded(16'320'875'725ull), "15.2 GiB");
}

TEST(memory_amounts, are_sizes_or_shares) {
  EXPECT_EQ(*parse_memory("80%"), (memory_amount{0, 80}));
  EXPECT_EQ(*parse_memory("24GiB"), (memory_amount{24ull << 30, 0}));
  for (const char* text : {"0%", "101%", "8.5%", "%", "eighty%"})
    EXPECT_NE(why(parse_memory(text)).find("1% to 100%"), std::string::npos) << text;
}

TEST(durations, add_up_their_parts) {
  EXPECT_EQ(*parse_duration("250ms"), 250ms);
  EXPECT_EQ(*parse_duration("30"), 30s);
  EXPECT_EQ(*parse_duration("1h30m"), 90min);
  EXPECT_EQ(*parse_duration("1.5h"), 90min);
  EXPECT_EQ(*parse_duration("2d"), 48h);
  EXPECT_EQ(*parse_duration("0"), 0ms);
}

TEST(durations, of_the_wrong_form_are_refused) {
  for (const char* text : {"", "5 m", "m", "30m1h", "1h1h", "-5m", "5x", "5m3", "1h 30m", "five"})
    EXPECT_NE(why(parse_duration(text)).find("is not a duration"), std::string::npos) << text;
  EXPECT_NE(why(parse_duration("999999999999d")).find("too long"), std::string::npos);
}

TEST(durations, survive_being_written_and_read_again) {
  for (const auto value : {0ms, 1ms, 90'000ms, 5'400'000ms, 172'800'001ms})
    EXPECT_EQ(*parse_duration(format_duration(value)), value) << format_duration(value);
}

TEST(keep_alives, know_for_ever) {
  EXPECT_EQ(*parse_keep_alive("-1"), -1ms);
  EXPECT_EQ(*parse_keep_alive("-5m"), -1ms);
  EXPECT_EQ(*parse_keep_alive("0"), 0ms);
  EXPECT_EQ(format_duration(-1ms), "-1");
  EXPECT_EQ(*parse_keep_alive("auto"), keep_alive_auto);
  EXPECT_EQ(format_duration(keep_alive_auto), "auto");
  EXPECT_EQ(*parse_keep_alive("-2"), -1ms);
  EXPECT_FALSE(parse_keep_alive("-"));
  EXPECT_FALSE(parse_keep_alive("forever"));
}

TEST(addresses, are_host_and_port) {
  EXPECT_EQ(*parse_address("127.0.0.1:11500"), (host_port{"127.0.0.1", 11500}));
  EXPECT_EQ(*parse_address("[::1]:80"), (host_port{"::1", 80}));
  EXPECT_EQ(*parse_address(":0"), (host_port{"0.0.0.0", 0}));
  EXPECT_EQ(to_string(host_port{"::1", 80}), "[::1]:80");
  for (const char* text : {"", "8080", "host:", "host:http", "host:65536", "::1:80", "a b:1",
                           "http://x:1", "[]:1", "-h:1", "a*b:1"})
    EXPECT_FALSE(parse_address(text)) << text;
}

TEST(globs, match_like_a_shell) {
  EXPECT_TRUE(glob_match("*", ""));
  EXPECT_TRUE(glob_match("qwen*", "qwen2.5-7b"));
  EXPECT_TRUE(glob_match("*-7b", "org/qwen-7b"));
  EXPECT_TRUE(glob_match("q?en*b", "qwen2.5-7b"));
  EXPECT_FALSE(glob_match("qwen", "qwen2"));
  EXPECT_FALSE(glob_match("?", ""));
  EXPECT_TRUE(glob_match("[a]", "[a]")); // no classes: brackets are literal
  EXPECT_FALSE(glob_match(std::string(60, '*') + "x", std::string(100'000, 'a')));
}

} // namespace
} // namespace troupe::config
