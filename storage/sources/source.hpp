#pragma once
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "base/error.hpp"

namespace troupe::storage {

/// A part of a file.
struct byte_range {
  uint64_t offset = 0;
  uint64_t length = 0;
};

/// One file of a source, as it was when it was asked about.
struct source_file {
  std::string path; ///< below the source's root, '/' between names; never leads out of it
  uint64_t size_bytes = 0;
  /// Another one whenever the bytes are others (an ETag, a modification time with the size); empty
  /// where the source knows nothing of that kind.
  std::string version;
  std::string sha256; ///< 64 lower-case hex digits where the source vouches for them, else empty
  bool ranged = true; ///< false: a read has to begin at 0, whatever it asks for
  /// 40 lower-case hex digits where the source vouches for the id that git gives the content.
  std::string git_blob{};
  /// Names these very bytes for everybody who asks the same address: that address, and a strong
  /// validator of its answer (RFC 9110, 8.8.1). Empty where there is none.
  std::string addressed{};
};

/// What names a file's bytes on whatever node they are: the sha256 that its source vouches for,
/// else its address and strong validator. Empty if there is neither.
std::string common_version(const source_file& file);

/// Takes bytes in order. An error ends the read, which then fails with it.
using byte_sink = std::function<caf::error(std::span<const std::byte>)>;

/// Where checkpoint bytes come from: a directory, a web server, an object store, a hub.
///
/// All functions may be called from many threads at once, and block; a stop request ends them soon
/// with `errc::cancelled`. Nothing is tried twice in here: what may work later fails with
/// `errc::unavailable` (see `wanted_pause`), and `with_retries` is for those who want to try again.
class source {
public:
  virtual ~source() = default;

  /// The address for messages, without credentials.
  virtual const std::string& name() const = 0;

  /// What is known of one file; `not_found` if there is none.
  virtual caf::expected<source_file> stat(const std::string& path, std::stop_token stop = {}) = 0;

  /// All files below the root, by path.
  virtual caf::expected<std::vector<source_file>> list(std::stop_token stop = {}) = 0;

  /// Hands over the bytes of `range` in pieces of any size, on the calling thread. Fails with
  /// `changed` if they are no longer those of `file.version`, with `short_read` if the file ends
  /// before the range does.
  virtual caf::error stream(const source_file& file, byte_range range, const byte_sink& sink,
                            std::stop_token stop = {}) = 0;

  /// Fills `into` from `offset`; fails as `stream` does.
  virtual caf::error read(const source_file& file, uint64_t offset, std::span<std::byte> into,
                          std::stop_token stop = {});

  /// Says that the bytes of a file, read whole, are not those that it should have. A source that
  /// draws on several then uses fewer of them, and returns the parts that came from those it gave
  /// up; nothing means that all of it is to be read anew.
  virtual std::vector<byte_range> doubt(const source_file&) { return {}; }

  /// Whether a read at `offset` would wait for another node, which fetches the same file. Such
  /// reads must not hold up those that others wait for.
  virtual bool comes_from_peer(const source_file&, uint64_t /*offset*/) const { return false; }

  /// How many nodes `comes_from_peer` may speak of.
  virtual unsigned peers() const { return 0; }

  /// The file itself where it lies on this machine, so that a reader may open it in its own way.
  virtual std::optional<std::filesystem::path> local_path(const source_file& file) const;
};

/// How long a source asked to be left alone (Retry-After), if `why` carries that.
std::optional<std::chrono::milliseconds> wanted_pause(const caf::error& why);

/// Whether a path from a listing or an index stays below its root: relative, no empty, "." or ".."
/// names, no control characters, at most 1,024 bytes.
bool is_inner_path(std::string_view path);

} // namespace troupe::storage
