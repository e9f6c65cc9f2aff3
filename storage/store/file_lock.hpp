#pragma once
#include <filesystem>
#include <optional>
#include <stop_token>

#include "base/error.hpp"

namespace troupe::storage {

/// A lock that processes of one machine share by a file; ends with its process, however that ends.
/// The hub's own client locks the same way (flock), so that both can fill one cache.
class file_lock {
public:
  enum class mode { shared, exclusive };

  /// Takes the lock if nobody holds a contrary one: nothing if somebody does. Creates the file and
  /// its directories; fails with `unreadable` where that cannot be done.
  static caf::expected<std::optional<file_lock>> try_lock(const std::filesystem::path& file,
                                                          mode how);
  /// Waits for it; `cancelled` when `stop` comes first.
  static caf::expected<file_lock> lock(const std::filesystem::path& file, mode how,
                                       const std::stop_token& stop);

  file_lock(file_lock&& other) noexcept;
  file_lock& operator=(file_lock&& other) noexcept;
  ~file_lock();

private:
  explicit file_lock(int fd) : fd_{fd} {}
  int fd_ = -1;
};

} // namespace troupe::storage
