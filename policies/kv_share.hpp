#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

/// Who gets the KV memory of a device that several models borrow from one arena, in spans. Times
/// are counts of an arena's events, the larger the later.
namespace troupe::policies {

/// What one model has borrowed.
struct kv_holding {
  uint64_t held = 0;        ///< spans in which a sequence holds a block
  uint64_t spare = 0;       ///< spans with nothing but remembered prefixes
  uint64_t spare_since = 0; ///< when the one of those was used last that was used longest ago
  uint32_t sequences = 0;   ///< that run
  uint64_t youngest = 0;    ///< when the youngest of those came
  bool is_draft = false;    ///< no text depends on what its spans hold
  bool is_stalled = false;  ///< it waits for weights, so that its sequences get nowhere
};

/// Asks for spans, for one sequence.
struct kv_plea {
  uint64_t spans = 1;
  uint64_t came = 0;                  ///< when the sequence came
  bool is_alone = false;              ///< no other sequence of its model runs
  bool may_push_out = false;          ///< sequences of other models
  bool may_borrow = true;             ///< its model has not borrowed all that it may
  std::optional<uint64_t> own_oldest; ///< last use of the model's oldest remembered block
};

enum class kv_relief : uint8_t {
  borrow,    ///< there are free spans
  own_block, ///< the model's oldest remembered block goes
  spare,     ///< `whom` gives up its oldest spare span
  push_out,  ///< `whom` pushes out its youngest sequence, or a draft model forgets one
  none,      ///< the model has to make do with what it has
};
struct kv_decision {
  kv_relief how = kv_relief::none;
  size_t whom = 0;
  bool operator==(const kv_decision&) const = default;
};

/// What comes next for `all[me]`, of an arena of `total` spans, `free` of which nobody has. Ask
/// again after each step until it says `borrow`, `own_block` or `none`.
///
/// First goes what costs least: free spans, remembered prefixes (the least recently used, whoever
/// has them), guesses. Then models that have more than their share (the arena over the models that
/// run something) make room for one that has less, with their youngest sequences. No model loses
/// its last sequence to a younger one that way, and a sequence that is alone in its model and older
/// than others gets theirs whatever the shares are. So nobody ever takes anything from the oldest
/// sequence of all, which comes to its end, and each becomes the oldest: no two push each other out
/// for ever. A model that waits for weights keeps nothing from others.
kv_decision relieve(std::span<const kv_holding> all, size_t me, const kv_plea& plea, uint64_t free,
                    uint64_t total);

/// Spans that `all[me]` could get by such steps for a sequence that comes now.
uint64_t within_reach(std::span<const kv_holding> all, size_t me, uint64_t free, uint64_t total);

} // namespace troupe::policies
