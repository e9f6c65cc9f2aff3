#pragma once
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.hpp"
#include "base/host_port.hpp"

/// The small languages of configuration values: sizes, durations, addresses. Every parser fails
/// with errc::invalid_value and a sentence that quotes the text and shows a right one.
namespace troupe::config {

/// An amount of memory: bytes, or a share of what the machine has; 0 and 0 = the default.
struct memory_amount {
  uint64_t bytes = 0;
  uint32_t percent = 0;
  bool operator==(const memory_amount&) const = default;
};

/// "24GiB", "512 MiB", "1.5G", "10GB" (decimal), "4096". K, M, G, T alone are binary.
caf::expected<uint64_t> parse_size(std::string_view text);
/// A size, or "80%" (1 to 100).
caf::expected<memory_amount> parse_memory(std::string_view text);
/// "250ms", "10s", "1h30m", "1.5h", "2d"; a bare number is seconds. Not negative.
caf::expected<std::chrono::milliseconds> parse_duration(std::string_view text);
/// A duration, or any negative number for "for ever", which comes back as -1 ms.
/// A keep-alive that follows from use and reload; other negative ones mean for ever.
inline constexpr std::chrono::milliseconds keep_alive_auto{-2};
caf::expected<std::chrono::milliseconds> parse_keep_alive(std::string_view text);
/// "127.0.0.1:11500", "[::1]:80", "localhost:0", ":8080" (every address).
caf::expected<host_port> parse_address(std::string_view text);
/// True for addresses of this machine alone: 127.x.x.x, ::1 and localhost.
bool is_loopback(std::string_view host);
/// Where this machine reaches what listens at `host`: an address of its own for "all addresses".
std::string reachable_host(const std::string& host);
/// Digits only, within [min, max].
caf::expected<uint64_t> parse_count(std::string_view text, uint64_t min, uint64_t max);
/// true/false, on/off, yes/no, 1/0 in any case: for environment variables and flags.
caf::expected<bool> parse_switch(std::string_view text);

/// The shortest exact form: "24GiB", "1536MiB", "1000B".
std::string format_size(uint64_t bytes);
/// For people: "15.2 GiB", "820 KiB", "0 B".
std::string format_size_rounded(uint64_t bytes);
std::string format_memory(const memory_amount& amount);
/// The shortest exact form: "5m", "1h30m", "250ms", "0s"; negative = "-1".
std::string format_duration(std::chrono::milliseconds value);

/// Shell-style match of `*` and `?`; everything else is literal. Linear in text times pattern.
bool glob_match(std::string_view pattern, std::string_view text);
/// True for a pattern, false for a plain name.
bool is_glob(std::string_view pattern);

} // namespace troupe::config
