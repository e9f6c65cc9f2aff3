#pragma once
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/error.hpp"

namespace troupe::storage {

using hour_point = std::chrono::time_point<std::chrono::system_clock, std::chrono::hours>;

/// What a tenant used of a model within an hour (UTC). Cached tokens are part of the prompt's.
struct usage_row {
  std::string tenant;
  std::string model;
  hour_point hour{};
  uint64_t requests = 0; ///< that got a token or an end
  uint64_t prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0;
  bool operator==(const usage_row&) const = default;
};

/// The ledger: what was used, for good. Calls block on the disk; one thread at a time.
class usage_store {
public:
  virtual ~usage_store() = default;
  /// Adds to what is there: all rows or, on failure, none.
  virtual caf::error add(std::span<const usage_row> rows) = 0;
  /// From `from` on, by hour, tenant and model.
  virtual caf::expected<std::vector<usage_row>> since(hour_point from) = 0;
  /// The same, summed over hours: `hour` is that of the first use.
  virtual caf::expected<std::vector<usage_row>> totals(hour_point from) = 0;
};

/// In a file `usage.db` of that directory. Several processes may share it.
caf::expected<std::unique_ptr<usage_store>> open_usage_store(const std::filesystem::path& dir);

} // namespace troupe::storage
