#include "delayed_copies.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

namespace troupe::cuda_emulation {

class delayed_copies {
public:
  struct step {
    const std::byte* from = nullptr; ///< null = no copy
    size_t size = 0;
    std::function<void()> run;
  };
  std::deque<step> steps;
  uint64_t passed = 0;
};

namespace {

std::recursive_mutex streams_mutex; // streams are used by several threads
std::vector<std::weak_ptr<delayed_copies>> streams;
struct pinned_memory {
  size_t size = 0;
  host_memory kind = host_memory::allocated;
};
std::map<const std::byte*, pinned_memory> pinned;

const std::byte* bytes_at(const void* data) { return static_cast<const std::byte*>(data); }

bool overlap(const std::byte* a, size_t a_size, const std::byte* b, size_t b_size) {
  return a < b + b_size && b < a + a_size;
}

} // namespace

bool is_awaited(const std::byte* data, size_t size) {
  const std::lock_guard guard{streams_mutex};
  return std::ranges::any_of(streams, [&](const auto& weak) {
    const auto stream = weak.lock();
    return stream && std::ranges::any_of(stream->steps, [&](const auto& step) {
             return step.from != nullptr && overlap(step.from, step.size, data, size);
           });
  });
}

std::shared_ptr<delayed_copies> begin_stream() {
  const std::lock_guard guard{streams_mutex};
  std::erase_if(streams, [](const auto& one) { return one.expired(); });
  auto out = std::make_shared<delayed_copies>();
  streams.push_back(out);
  return out;
}

void copy_later(delayed_copies& stream, void* to, const void* from, size_t size) {
  const std::lock_guard guard{streams_mutex};
  stream.steps.push_back({bytes_at(from), size, [=] { std::memcpy(to, from, size); }});
}

void call_later(delayed_copies& stream, std::function<void()> call) {
  const std::lock_guard guard{streams_mutex};
  stream.steps.push_back({nullptr, 0, std::move(call)});
}

stream_mark mark(const std::shared_ptr<delayed_copies>& stream) {
  const std::lock_guard guard{streams_mutex};
  return {stream, stream->passed + stream->steps.size()};
}

void settle(const stream_mark& upto) {
  const std::lock_guard guard{streams_mutex};
  const auto& stream = upto.stream;
  while (stream && stream->passed < upto.position) {
    const auto next = std::move(stream->steps.front());
    stream->steps.pop_front();
    ++stream->passed;
    next.run();
  }
}

void settle(const std::shared_ptr<delayed_copies>& stream) {
  if (stream)
    settle(mark(stream));
}

host_memory kind_of(const void* from, size_t size) {
  const std::lock_guard guard{streams_mutex};
  const auto* begin = bytes_at(from);
  for (const auto& [data, one] : pinned)
    if (overlap(begin, size, data, one.size))
      return begin >= data && begin + size <= data + one.size ? one.kind : host_memory::several;
  return host_memory::pageable;
}

bool pin(const void* data, size_t size, host_memory as) {
  const std::lock_guard guard{streams_mutex};
  if (kind_of(data, size) != host_memory::pageable)
    return false;
  pinned.emplace(bytes_at(data), pinned_memory{size, as});
  return true;
}

bool unpin(const void* data) {
  const std::lock_guard guard{streams_mutex};
  const auto at = pinned.find(bytes_at(data));
  if (at == pinned.end())
    return false;
  if (is_awaited(at->first, at->second.size)) {
    std::fprintf(stderr, "emulated CUDA: pinned memory goes that a device has yet to read\n");
    std::abort();
  }
  pinned.erase(at);
  return true;
}

} // namespace troupe::cuda_emulation
