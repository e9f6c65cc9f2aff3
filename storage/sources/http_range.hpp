#pragma once
#include <string>

#include "storage/sources/http.hpp"

namespace troupe::storage {

/// The validator of an answer: its ETag, else "modified " and its Last-Modified, else nothing.
std::string version_of(const http_head& answer);

/// The same if it is a strong one, so that equal ones mean equal bytes; else empty. A date is one
/// where the file was a minute old when the answer was made (RFC 9110, 8.8.2.2, and RFC 7232, which
/// asks for that much): what is written twice within a second has one date.
std::string strong_version_of(const http_head& answer);

/// Whether If-Range and If-Match may carry this ETag: W/ marks weak ones.
bool is_strong_etag(const std::string& version);

/// A read of a part of one file over HTTP.
struct ranged_read {
  http_request request; ///< without the range
  source_file file;
  byte_range range;
  bool compare_versions = true; ///< false: what answers is not what `file.version` came from
  std::string what;             ///< begins every message: "fetching a.txt from https://..."
  std::string hint;             ///< what to do when access is denied
};

/// Streams the bytes of `read.range`. Beside what `source::stream` promises: fails with
/// `unsupported` if the server ignores ranges and the part does not begin at 0, and with
/// `unavailable` if the answer ends early, so that the rest can be asked for.
caf::error stream_range(http_client& over, ranged_read read, const byte_sink& sink,
                        std::stop_token stop);

/// Size, versions and whether ranges work, of `request.url`: by HEAD, and where that leaves
/// something open by a GET of the first byte. `path` is what the result is called, `name` the
/// address that all who mean this file have in common.
caf::expected<source_file> stat_url(http_client& over, const http_request& request,
                                    const std::string& path, const std::string& name,
                                    const std::string& what, const std::string& hint,
                                    std::stop_token stop);

} // namespace troupe::storage
