#pragma once
#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <vector>

namespace troupe::storage {

/// Who of several that have the same bytes is asked for the next ones: whoever is expected to end
/// first, by what was delivered so far and what is owed yet, so that bytes are shared out in
/// proportion to the bandwidths. The caller guards it by a mutex of its own.
class delivery_shares {
public:
  using clock = std::chrono::steady_clock;
  explicit delivery_shares(size_t members) : members_(members) {}

  /// The member that would end a read of so many bytes first, among those that are not lost and
  /// that `may` accepts (empty = all). One that has delivered nothing yet is taken for as fast as
  /// the fastest, so that everyone is tried. Nothing if there is none.
  std::optional<size_t> choose(double bytes, const std::function<bool(size_t)>& may = {}) const;
  /// The member was asked for so many bytes.
  void owe(size_t member, double bytes, clock::time_point now);
  /// So many of them came.
  void came(size_t member, double bytes, clock::time_point now);
  /// So many will not come.
  void forgive(size_t member, double bytes) { members_[member].owed -= bytes; }

  void lose(size_t member) { members_[member].lost = true; }
  void find_again(size_t member) { members_[member].lost = false; }
  bool is_lost(size_t member) const { return members_[member].lost; }
  bool all_lost() const;
  double delivered_bytes(size_t member) const { return members_[member].bytes; }

private:
  struct member {
    bool lost = false;
    double owed = 0;               ///< bytes asked for that have not come
    double bytes = 0, seconds = 0; ///< delivered, while something was owed
    clock::time_point since{};
  };
  std::vector<member> members_;
};

} // namespace troupe::storage
