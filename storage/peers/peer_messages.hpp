#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "storage/integrity/checksum.hpp"

/// What the nodes of a cluster say to each other on the data plane, and how it looks on the wire;
/// the schema is schemas/peer.capnp.
namespace troupe::storage {

/// Raised when an older node could no longer understand a newer one.
inline constexpr uint32_t peer_protocol = 1;
/// No request takes more; an answer may list the checksums of terabytes.
inline constexpr uint32_t peer_request_bytes_max = 64u << 10;
inline constexpr uint32_t peer_answer_bytes_max = 16u << 20;
/// One read asks for no more.
inline constexpr uint32_t peer_read_bytes_max = 64u << 20;

struct peer_hello {
  uint32_t protocol = peer_protocol;
  std::string node;
};

enum class peer_call : uint8_t { list, read };

struct peer_request {
  uint64_t number = 0;
  peer_call call = peer_call::list;
  std::string model;
  std::string file{};
  std::string version{}; ///< as listed
  uint64_t offset = 0;
  uint32_t length = 0;
  /// How long to wait for a model that the peer does not know yet, or bytes that it is fetching.
  uint32_t patience_ms = 0;
  std::string other_version{}; ///< as listed
};

/// A file of a model as a peer has it.
struct peer_file {
  std::string path; ///< below the model; stays there
  uint64_t size_bytes = 0;
  std::string version; ///< equal ones mean equal bytes, on whatever node
  bool is_weights = false;
  uint64_t head_bytes = 0;      ///< of weights: what stands before the first tensor
  uint32_t chunk_bytes = 0;     ///< what `sums` are of
  std::vector<checksum> sums{}; ///< of every chunk, all zero = unknown; or empty
  /// By which the same bytes were known before all their checksums were; or empty.
  std::string other_version{};
  std::string addressed{}; ///< as `source_file::addressed`, if it was fetched
};

/// The key under which chunks of a peer's file lie in a pool.
checksum key_of(const peer_file& file);

struct peer_answer {
  uint64_t number = 0;
  uint8_t error_code = 0; ///< of `errc`; 0 = well
  std::string error{};
  bool pending = false; ///< it takes longer; another answer comes
  uint64_t payload_bytes = 0;
  checksum sum{};
  std::vector<peer_file> files{};
};

/// Whole messages, with what stands before them on the wire.
std::string frame(const peer_hello& x);
std::string frame(const peer_request& x);
std::string frame(const peer_answer& x);

inline constexpr size_t frame_prefix_bytes = 8;
/// How many bytes of message follow these. Fails with `malformed` if they begin no message of this
/// protocol, or one of more than `bytes_max`.
caf::expected<uint32_t> message_length(std::span<const std::byte, frame_prefix_bytes> prefix,
                                       uint32_t bytes_max);

/// Any bytes give a value or `malformed`. Paths that lead out of a model, lists of checksums that
/// are no such list, and payloads beyond `peer_read_bytes_max` are malformed.
caf::error decode(std::string_view message, peer_hello& x);
caf::error decode(std::string_view message, peer_request& x);
caf::error decode(std::string_view message, peer_answer& x);

/// The error that an answer carries, named after who sent it; none if it went well.
caf::error error_of(const peer_answer& x, const std::string& who);

} // namespace troupe::storage
