#pragma once
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "base/ids.hpp"
#include "base/instant.hpp"
#include "policies/fair_queue.hpp"

namespace troupe::policies {

/// A sequence that waits for a place on a worker.
struct waiting_sequence {
  sequence_id id;
  uint32_t epoch = 0;
  instant accepted{};   ///< when its request came in
  instant since{};      ///< when it began to wait this time
  bool resumed = false; ///< has run before; its worker went away
  /// Who pays. The name is for people.
  fair_share tenant{};
  std::string tenant_name{};
  fair_priority priority = fair_priority::standard;
  uint32_t input_tokens = 0;
  uint32_t cached_tokens = 0; ///< of the input, as far as is known before it runs
  uint32_t output_max = 0;
  bool operator==(const waiting_sequence&) const = default;
};

/// In which order the waiting sequences of one model are handed out. Resumed ones always come
/// first: somebody is watching their half-finished text.
class queue_order {
public:
  virtual ~queue_order() = default;
  /// Replaces an entry of the same id.
  virtual void push(const waiting_sequence& sequence) = 0;
  /// Takes the one whose turn it is.
  virtual std::optional<waiting_sequence> pop() = 0;
  virtual bool erase(sequence_id id) = 0;
  virtual bool contains(sequence_id id) const = 0;
  virtual size_t size() const = 0;
  /// When the longest-waiting one began to wait.
  virtual std::optional<instant> oldest() const = 0;
  /// All of them, in order.
  virtual std::vector<waiting_sequence> list() const = 0;
};

/// First come, first served, by the time of acceptance.
class fcfs_order final : public queue_order {
public:
  void push(const waiting_sequence& sequence) override;
  std::optional<waiting_sequence> pop() override;
  bool erase(sequence_id id) override;
  bool contains(sequence_id id) const override { return turns_.contains(id); }
  size_t size() const override { return by_turn_.size(); }
  std::optional<instant> oldest() const override;
  std::vector<waiting_sequence> list() const override;

private:
  using turn = std::tuple<bool, instant, sequence_id>; // false sorts first: resumed
  static turn turn_of(const waiting_sequence& x) { return {!x.resumed, x.accepted, x.id}; }
  std::map<turn, waiting_sequence> by_turn_;
  std::map<sequence_id, turn> turns_;
  std::multiset<instant> since_;
};

} // namespace troupe::policies
