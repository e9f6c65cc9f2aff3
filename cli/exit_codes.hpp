#pragma once

/// What `troupe` exits with; scripts may rely on it.
namespace troupe::cli {
inline constexpr int ok = 0;
inline constexpr int failed = 1;         ///< the work itself failed
inline constexpr int usage = 2;          ///< wrong words, or a bad configuration
inline constexpr int cannot_connect = 3; ///< no server at the URL
inline constexpr int not_found = 4;      ///< no such model
inline constexpr int cannot_listen = 5;  ///< the address is taken or not ours
inline constexpr int no_device = 6;      ///< there is no such device to compute on
inline constexpr int interrupted = 130;  ///< Ctrl-C; 143 after SIGTERM, as shells count
} // namespace troupe::cli
