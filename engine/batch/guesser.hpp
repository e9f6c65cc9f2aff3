#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "engine/engine.hpp"

namespace troupe::engine {

/// Asks for what a sequence says next.
struct guess_wish {
  const sequence_request* of = nullptr;
  uint32_t most = 0; ///< guesses that are of use
  std::vector<token_id>* out = nullptr;
};

/// Guesses what sequences say next. Guesses may be wrong: a step of the model itself checks them.
class guesser {
public:
  virtual ~guesser() = default;
  /// Sets every wish's `out`, which may stay empty. What is in it is in the model's vocabulary.
  virtual void guess(std::span<const guess_wish> wishes) = 0;
  /// What one guess for each wish takes, in milliseconds; 0 if that is nothing, or not known yet.
  virtual double pass_ms() const { return 0; }
};

/// Guesses by `look_up_draft`.
class lookup_guesser final : public guesser {
public:
  void guess(std::span<const guess_wish> wishes) override;
};

} // namespace troupe::engine
