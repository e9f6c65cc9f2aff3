#pragma once
#include <memory>
#include <string>
#include <vector>

#include "storage/pipeline/weight_tiers.hpp"

namespace troupe::storage {

/// Weights that come into the pool before somebody asks for them: after every load that a user
/// waits for, and kept no longer than what else is there. Ends with this object.
class prefetch {
public:
  /// Begins to bring in the tensors of those names. `worth` is what one of their chunks is worth in
  /// the measure of the pool: null if they are there, or in the page cache, or if the pool has no
  /// room for all of them that is free or holds what is worth less than half as much. Fails with
  /// `corrupted` for files that are known to be damaged.
  static caf::expected<std::unique_ptr<prefetch>> start(weight_tiers& tiers,
                                                        const checkpoint& files,
                                                        const std::vector<std::string>& names,
                                                        double worth, instant now);
  ~prefetch() { load_->cancel(); }
  prefetch(const prefetch&) = delete;
  prefetch& operator=(const prefetch&) = delete;

  bool is_over() const { return over_->load(); }
  load_counts counts() const { return load_->counts(); }

private:
  prefetch() = default;
  std::shared_ptr<std::atomic<bool>> over_ = std::make_shared<std::atomic<bool>>(false);
  std::shared_ptr<load> load_;
};

} // namespace troupe::storage
