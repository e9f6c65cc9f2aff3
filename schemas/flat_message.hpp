#pragma once
#include <cstring>
#include <string>
#include <string_view>

#include <capnp/message.h>
#include <capnp/serialize.h>
#include <kj/exception.h>

#include "schemas/errors.hpp"

namespace troupe::schemas {

/// Bytes of `message` as one flat array, without compression.
inline std::string to_bytes(capnp::MessageBuilder& message) {
  const auto words = capnp::messageToFlatArray(message);
  const auto bytes = words.asBytes();
  return {reinterpret_cast<const char*>(bytes.begin()), bytes.size()};
}

/// Reads a flat array and calls `use(reader)`, which returns a caf::error. Whatever the bytes are:
/// an exception of the library becomes errc::malformed, and reading is bounded by their size.
template <class Root, class Use>
caf::error from_bytes(std::string_view bytes, const char* what, Use use) {
  const auto malformed = [&](std::string why) {
    return caf::make_error(errc::malformed, std::string{what} + " is malformed: " + std::move(why));
  };
  if (bytes.empty() || bytes.size() % sizeof(capnp::word) != 0)
    return malformed(std::to_string(bytes.size()) + " bytes");
  // A copy, because a string's bytes need not be aligned as words are.
  auto words = kj::heapArray<capnp::word>(bytes.size() / sizeof(capnp::word));
  std::memcpy(words.begin(), bytes.data(), bytes.size());
  caf::error result;
  capnp::ReaderOptions options;
  options.traversalLimitInWords = 4 * words.size() + 1024;
  options.nestingLimit = 16;
  if (auto failed = kj::runCatchingExceptions([&] {
        capnp::FlatArrayMessageReader reader{words, options};
        result = use(reader.template getRoot<Root>());
      });
      failed != nullptr) {
    KJ_IF_MAYBE (exception, failed)
      return malformed(exception->getDescription().cStr());
  }
  return result;
}

} // namespace troupe::schemas
