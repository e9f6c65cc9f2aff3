#include "storage/peers/peer_messages.hpp"

#include <algorithm>
#include <cstring>

#include "schemas/flat_message.hpp"
#include "schemas/peer.capnp.h"
#include "storage/errors.hpp"
#include "storage/sources/source.hpp"

namespace troupe::storage {

namespace {

namespace cp = schemas;

constexpr std::string_view magic = "TPD1";

kj::StringPtr view(const std::string& x) { return {x.c_str(), x.size()}; }
std::string text(capnp::Text::Reader x) { return {x.begin(), x.size()}; }

caf::error bad(const char* what) {
  return caf::make_error(errc::malformed, std::string{"a message of a peer is malformed: "} + what);
}

std::string framed(capnp::MessageBuilder& message) {
  const auto words = capnp::messageToFlatArray(message);
  const auto bytes = words.asBytes();
  const auto length = static_cast<uint32_t>(bytes.size());
  std::string out{magic};
  for (int shift = 0; shift < 32; shift += 8)
    out.push_back(static_cast<char>(length >> shift & 0xff));
  out.append(reinterpret_cast<const char*>(bytes.begin()), bytes.size());
  return out;
}

/// The schema's own errors as this module's.
template <class Root, class Use>
caf::error read_as(std::string_view message, const char* what, Use use) {
  if (auto why = cp::from_bytes<Root>(message, what, use))
    return why.category() == caf::atom("schemas") ? caf::make_error(errc::malformed, describe(why))
                                                  : why;
  return {};
}

void write(cp::PeerFile::Builder to, const peer_file& from) {
  to.setPath(view(from.path));
  to.setSizeBytes(from.size_bytes);
  to.setVersion(view(from.version));
  to.setIsWeights(from.is_weights);
  to.setHeadBytes(from.head_bytes);
  to.setChunkBytes(from.chunk_bytes);
  to.setOtherVersion(view(from.other_version));
  to.setAddressed(view(from.addressed));
  auto sums = to.initSums(static_cast<unsigned>(2 * from.sums.size()));
  for (unsigned i = 0; i < from.sums.size(); ++i) {
    sums.set(2 * i, from.sums[i].low);
    sums.set(2 * i + 1, from.sums[i].high);
  }
}

caf::error read(cp::PeerFile::Reader from, peer_file& to) {
  to.path = text(from.getPath());
  to.size_bytes = from.getSizeBytes();
  to.version = text(from.getVersion());
  to.is_weights = from.getIsWeights();
  to.head_bytes = from.getHeadBytes();
  to.chunk_bytes = from.getChunkBytes();
  to.other_version = text(from.getOtherVersion());
  to.addressed = text(from.getAddressed());
  if (!is_inner_path(to.path))
    return bad("a path leads out of the model");
  if (to.head_bytes > to.size_bytes)
    return bad("the head of a file is longer than the file");
  const auto sums = from.getSums();
  if (sums.size() == 0)
    return {};
  if (to.chunk_bytes == 0 || sums.size() % 2 != 0 ||
      sums.size() / 2 != to.size_bytes / to.chunk_bytes + (to.size_bytes % to.chunk_bytes != 0))
    return bad("not as many checksums as chunks");
  to.sums.reserve(sums.size() / 2);
  for (unsigned i = 0; i < sums.size(); i += 2)
    to.sums.push_back({sums[i], sums[i + 1]});
  return {};
}

} // namespace

checksum key_of(const peer_file& file) {
  const auto text = file.version + "\n" + file.path + "\n" + std::to_string(file.size_bytes);
  return checksum_of(std::as_bytes(std::span{text}));
}

std::string frame(const peer_hello& x) {
  capnp::MallocMessageBuilder message;
  auto to = message.initRoot<cp::PeerHello>();
  to.setProtocol(x.protocol);
  to.setNode(view(x.node));
  return framed(message);
}

std::string frame(const peer_request& x) {
  capnp::MallocMessageBuilder message;
  auto to = message.initRoot<cp::PeerRequest>();
  to.setNumber(x.number);
  to.setCall(x.call == peer_call::read ? cp::PeerCall::READ : cp::PeerCall::LIST);
  to.setModel(view(x.model));
  to.setFile(view(x.file));
  to.setVersion(view(x.version));
  to.setOffset(x.offset);
  to.setLength(x.length);
  to.setPatienceMs(x.patience_ms);
  to.setOtherVersion(view(x.other_version));
  return framed(message);
}

std::string frame(const peer_answer& x) {
  capnp::MallocMessageBuilder message;
  auto to = message.initRoot<cp::PeerAnswer>();
  to.setNumber(x.number);
  to.setErrorCode(x.error_code);
  to.setError(view(x.error));
  to.setPending(x.pending);
  to.setPayloadBytes(x.payload_bytes);
  to.setSumLow(x.sum.low);
  to.setSumHigh(x.sum.high);
  auto files = to.initFiles(static_cast<unsigned>(x.files.size()));
  for (unsigned i = 0; i < x.files.size(); ++i)
    write(files[i], x.files[i]);
  return framed(message);
}

caf::expected<uint32_t> message_length(std::span<const std::byte, frame_prefix_bytes> prefix,
                                       uint32_t bytes_max) {
  if (std::memcmp(prefix.data(), magic.data(), magic.size()) != 0)
    return bad("it does not begin as one of this protocol");
  uint32_t length = 0;
  for (size_t i = 0; i < 4; ++i)
    length |= static_cast<uint32_t>(prefix[magic.size() + i]) << (8 * i);
  if (length > bytes_max)
    return bad("it is too long");
  return length;
}

caf::error decode(std::string_view message, peer_hello& x) {
  return read_as<cp::PeerHello>(message, "the hello of a peer", [&](auto from) -> caf::error {
    x.protocol = from.getProtocol();
    x.node = text(from.getNode());
    return {};
  });
}

caf::error decode(std::string_view message, peer_request& x) {
  return read_as<cp::PeerRequest>(message, "a peer's request", [&](auto from) -> caf::error {
    x.number = from.getNumber();
    switch (from.getCall()) {
    case cp::PeerCall::LIST:
      x.call = peer_call::list;
      break;
    case cp::PeerCall::READ:
      x.call = peer_call::read;
      break;
    default:
      return bad("it asks for what this version does not know");
    }
    x.model = text(from.getModel());
    x.file = text(from.getFile());
    x.version = text(from.getVersion());
    x.offset = from.getOffset();
    x.length = from.getLength();
    x.patience_ms = from.getPatienceMs();
    x.other_version = text(from.getOtherVersion());
    return x.length > peer_read_bytes_max ? bad("it asks for too much at once") : caf::error{};
  });
}

caf::error decode(std::string_view message, peer_answer& x) {
  return read_as<cp::PeerAnswer>(message, "a peer's answer", [&](auto from) -> caf::error {
    x.number = from.getNumber();
    x.error_code = from.getErrorCode();
    x.error = text(from.getError());
    x.pending = from.getPending();
    x.payload_bytes = from.getPayloadBytes();
    x.sum = {from.getSumLow(), from.getSumHigh()};
    x.files.clear();
    for (const auto& file : from.getFiles())
      if (auto why = read(file, x.files.emplace_back()))
        return why;
    return x.payload_bytes > peer_read_bytes_max ? bad("it sends too much at once") : caf::error{};
  });
}

caf::error error_of(const peer_answer& x, const std::string& who) {
  if (x.error_code == 0)
    return {};
  // A newer peer may know errors that this version does not.
  const auto code = x.error_code <= static_cast<uint8_t>(errc::not_yet)
                        ? static_cast<errc>(x.error_code)
                        : errc::unavailable;
  return caf::make_error(code, who + ": " + x.error);
}

} // namespace troupe::storage
