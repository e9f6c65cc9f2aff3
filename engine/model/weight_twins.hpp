#pragma once
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "engine/engine.hpp"
#include "gpu/memory_home.hpp"

namespace troupe::engine {

class model_weights;

/// What tells weights on a device from all others.
struct twin_name {
  std::string checkpoint; ///< see `engine::create`; empty = nobody else's
  quantization quantize = quantization::none;
  bool operator==(const twin_name&) const = default;
};

/// The weights that the devices of a process have, for others of its devices to copy. All functions
/// may be called from any thread.
///
/// Weights belong to their device, which one thread uses; copying only reads them. So they are lent
/// for the time of a copy, and who owns them waits before they go:
///
///     offered --lend--> lent --loan gone--> offered --offer gone--> away
///                        `--offer gone--> called back --loan gone--> away
///
/// Whoever has a loan must not wait for a thread that may own weights, and gives it back soon after
/// `is_called_back`.
class weight_twins : public std::enable_shared_from_this<weight_twins> {
  struct entry;

public:
  /// Keeps weights on offer until it goes. That blocks until the last loan, which is called back,
  /// is gone too.
  class offer {
  public:
    offer(std::shared_ptr<weight_twins> to, std::shared_ptr<entry> what);
    ~offer();
    offer(const offer&) = delete;
    offer& operator=(const offer&) = delete;
    bool is_lent() const;

  private:
    std::shared_ptr<weight_twins> to_;
    std::shared_ptr<entry> what_;
  };

  /// Weights that stay as and where they are as long as this lives.
  class loan {
  public:
    loan(std::shared_ptr<weight_twins> from, std::shared_ptr<entry> what);
    ~loan();
    loan(const loan&) = delete;
    loan& operator=(const loan&) = delete;

    const model_weights& weights() const;
    const gpu::memory_home& home() const;
    /// What the weights lie in that are used in place.
    const std::shared_ptr<const void>& keep_alive() const;
    bool is_called_back() const;

  private:
    std::shared_ptr<weight_twins> from_;
    std::shared_ptr<entry> what_;
  };

  /// Offers weights from when all of them are there; they must outlive the offer. `returned` is
  /// called, on whichever thread copied them, when they are lent no more, and not after the offer
  /// is gone; may be null.
  std::unique_ptr<offer> put(const model_weights& weights, twin_name name, gpu::memory_home home,
                             std::shared_ptr<const void> keep_alive,
                             std::function<void()> returned);
  /// Weights of that name which a device at `to` can copy: those that are lent least. Null if there
  /// are none.
  std::shared_ptr<const loan> lend(const twin_name& name, const gpu::memory_home& to);
  /// Bytes that would be copied; nothing if there are none to lend.
  std::optional<uint64_t> bytes_to_copy(const twin_name& name, const gpu::memory_home& to) const;

private:
  std::shared_ptr<entry> find(const twin_name& name, const gpu::memory_home& to) const;

  mutable std::mutex mutex_;
  std::condition_variable returned_;
  std::list<std::shared_ptr<entry>> offered_;
};

} // namespace troupe::engine
