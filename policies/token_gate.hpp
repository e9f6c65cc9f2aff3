#pragma once
#include <cstdint>

namespace troupe::policies {

/// The rule by which a token becomes final: it is of the current epoch and the very next one.
/// Whatever a dead or doubted worker still sends is therefore neither repeated nor out of place.
class token_gate {
public:
  /// A request that is dispatched this often without one token is likely the cause of its losses.
  static constexpr uint32_t fruitless_max = 6;

  bool accepts(uint32_t epoch, uint32_t offset) const { return epoch == epoch_ && offset == next_; }
  void advance() {
    ++next_;
    fruitless_ = 0;
  }
  /// Begins a new dispatch; what belongs to earlier ones is dropped from now on.
  uint32_t reopen() {
    ++fruitless_;
    return ++epoch_;
  }
  /// Whether another dispatch is worth it.
  bool hopeless() const { return fruitless_ >= fruitless_max; }
  uint32_t epoch() const { return epoch_; }
  uint32_t next() const { return next_; }

private:
  uint32_t epoch_ = 0;
  uint32_t next_ = 0;
  uint32_t fruitless_ = 0; ///< dispatches since the last token
};

} // namespace troupe::policies
