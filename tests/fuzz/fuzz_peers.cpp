// What a peer may send on the data plane: the first byte chooses the message that the rest is.
#include <cstdlib>
#include <span>
#include <string_view>

#include "storage/peers/peer_messages.hpp"
#include "storage/sources/source.hpp"

namespace {

using namespace troupe::storage;

void expect(bool truth) {
  if (!truth)
    std::abort();
}

/// Whatever is understood has one spelling, which is understood in the same way.
template <class Message>
void check(std::string_view bytes, uint32_t bytes_max) {
  Message x;
  if (decode(bytes, x))
    return;
  const auto once = frame(x);
  const auto prefix = std::as_bytes(std::span<const char>{once}).first<frame_prefix_bytes>();
  const auto length = message_length(prefix, UINT32_MAX);
  expect(length && *length + frame_prefix_bytes == once.size());
  expect(static_cast<bool>(message_length(prefix, bytes_max)) == (*length <= bytes_max));
  Message again;
  expect(!decode(std::string_view{once}.substr(frame_prefix_bytes), again) && frame(again) == once);
}

void check_answer(std::string_view bytes) {
  peer_answer x;
  if (decode(bytes, x))
    return;
  expect(x.payload_bytes <= peer_read_bytes_max);
  for (const auto& file : x.files) {
    expect(is_inner_path(file.path));
    expect(file.head_bytes <= file.size_bytes);
    expect(file.sums.empty() || (file.sums.size() - 1) * file.chunk_bytes < file.size_bytes);
  }
  expect(static_cast<bool>(error_of(x, "fuzz")) == (x.error_code != 0));
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0)
    return 0;
  const std::string_view text{reinterpret_cast<const char*>(data) + 1, size - 1};
  switch (data[0]) {
  case 'h':
    check<peer_hello>(text, peer_request_bytes_max);
    break;
  case 'r':
    check<peer_request>(text, peer_request_bytes_max);
    break;
  case 'a':
    check<peer_answer>(text, peer_answer_bytes_max);
    check_answer(text);
    break;
  default:
    if (text.size() >= frame_prefix_bytes)
      static_cast<void>(
          message_length(std::as_bytes(std::span<const char>{text}).first<frame_prefix_bytes>(),
                         peer_request_bytes_max));
  }
  return 0;
}
