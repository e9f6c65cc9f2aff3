#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

/// Copies from pinned memory, or that of another device, as late as a device may make them: when
/// something that is queued after them runs, or is waited for. So a source that changes or goes too
/// early shows.
namespace troupe::cuda_emulation {

class delayed_copies;

/// A place in the order of a stream. An empty one has been passed.
struct stream_mark {
  std::shared_ptr<delayed_copies> stream;
  uint64_t position = 0;
};

std::shared_ptr<delayed_copies> begin_stream();
/// Whether a copy from there is still to be made.
bool is_awaited(const std::byte* data, size_t size);
/// Copies when the stream comes to it.
void copy_later(delayed_copies& stream, void* to, const void* from, size_t size);
/// Calls when the stream comes to it.
void call_later(delayed_copies& stream, std::function<void()> call);
stream_mark mark(const std::shared_ptr<delayed_copies>& stream);
/// Runs what is queued before the mark, on other streams, too, where it waits for them.
void settle(const stream_mark& upto);
void settle(const std::shared_ptr<delayed_copies>& stream);

/// What a range of host memory lies in: pinned memory that was allocated, or registered, at once;
/// several of those; or neither.
enum class host_memory { pageable, allocated, registered, several };
host_memory kind_of(const void* from, size_t size);
/// False: a part of it is pinned already.
bool pin(const void* data, size_t size, host_memory as);
/// False: there is no such pinned memory. Aborts if a copy from it is still to be made.
bool unpin(const void* data);

} // namespace troupe::cuda_emulation
