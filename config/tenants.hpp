#pragma once
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace troupe::config {

/// A key of the API as the file names it: exactly one of `hash`, `env` and `file` is set.
struct access_key_settings {
  std::string hash; ///< "sha256:" and 64 hex digits
  std::string env;  ///< variable that holds the key itself
  std::string file; ///< file that holds the key itself
  std::string name; ///< for people
  std::optional<std::chrono::sys_seconds> expires;
};

/// What a tenant may spend.
struct budget_settings {
  uint64_t tokens = 0; ///< in what `cost` makes of tokens; 0 = no budget
  std::string per;     ///< "day", "week", "month", or hours ("720h")
  uint32_t hours = 0;  ///< 0 where `per` is of the calendar
  uint32_t soft_percent = 0;
  std::string cost = "input + cached + output";
  double input = 1, cached = 1, output = 1; ///< what `cost` says
};

/// Who may use the API, and how much. Limits of 0 are none.
struct tenant_settings {
  std::string name;
  std::vector<access_key_settings> keys{};
  std::vector<std::string> models{}; ///< names or globs; empty = all
  double weight = 1;                 ///< share under contention
  std::string priority = "standard";
  uint64_t rpm = 0;         ///< requests in any 60 seconds
  uint64_t tpm = 0;         ///< tokens in any 60 seconds
  uint64_t concurrency = 0; ///< requests at a time
  uint64_t max_tokens = 0;  ///< of one answer
  uint64_t queue = 0;       ///< requests that wait
  uint64_t warm_models = 0; ///< models that it keeps loaded
  uint64_t vram = 0;        ///< bytes, its share of what those take
  uint64_t cold_starts_per_hour = 0;
  budget_settings budget{};
  bool enforce = true; ///< false: what would be refused is only counted
};

} // namespace troupe::config
