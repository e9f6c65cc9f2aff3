#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"

namespace troupe::storage {

struct s3_object {
  std::string key;
  std::string etag; ///< with its quotes
  uint64_t size_bytes = 0;
};

/// One page of ListObjectsV2.
struct s3_listing {
  std::vector<s3_object> objects;
  std::string next; ///< token of the next page; empty = this was the last one
};

/// Parses the XML of a page; `origin` begins every message.
caf::expected<s3_listing> parse_s3_listing(std::string_view xml, const std::string& origin);

/// "AccessDenied: Access Denied" from the XML of a refusal; empty if it says nothing.
std::string s3_refusal(std::string_view xml);

} // namespace troupe::storage
