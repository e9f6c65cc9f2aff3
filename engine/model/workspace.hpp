#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "gpu/device.hpp"

namespace troupe::engine {

/// Whose steps run in a `workspace`. All calls come while it runs no step.
class workspace_user {
public:
  virtual ~workspace_user() = default;
  /// What it left in the workspace, and still needs, it has to keep elsewhere.
  virtual void put_aside() = 0;
  /// The workspace goes from where it was.
  virtual void moves() = 0;
};

/// The memory of a device that the steps of its models run in, one after the other: as large as the
/// model needs that needs most, and no larger.
///
/// One thread at a time. Taking it allocates nothing, unless it could not be had when it had to
/// move.
class workspace {
public:
  /// `device` must outlive it.
  explicit workspace(gpu::device& device) : device_{device} {}

  uint64_t size_bytes() const { return memory_.size_bytes(); }

  /// `who`, until it leaves, needs so many bytes. Fails with out_of_memory; the others then have
  /// what they had.
  caf::error join(workspace_user& who, uint64_t size_bytes);
  void leave(workspace_user& who);
  /// Gives where it is, aligned to 64 bytes, for `who` alone until another one takes it or it
  /// moves. Contents are what `who` left there, if nobody took it since.
  caf::expected<std::byte*> take(workspace_user& who);
  /// Whether nobody took it, and it did not move, since `who` did take it.
  bool is_left_to(const workspace_user& who) const { return last_ == &who; }

private:
  struct member {
    workspace_user* who = nullptr;
    uint64_t size_bytes = 0;
  };
  void clear();
  caf::error resize();

  gpu::device& device_;
  gpu::buffer memory_;
  std::vector<member> members_;
  workspace_user* last_ = nullptr;
};

} // namespace troupe::engine
