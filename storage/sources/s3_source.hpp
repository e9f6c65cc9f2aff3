#pragma once
#include <memory>

#include "storage/sources/http.hpp"
#include "storage/sources/location.hpp"
#include "storage/sources/s3_credentials.hpp"
#include "storage/sources/source.hpp"

namespace troupe::storage {

/// The objects under a prefix of a bucket, at Amazon or at any server with its interface. Requests
/// are signed (Signature Version 4) if there are credentials. The version of a file is its ETag;
/// objects stored with a whole SHA-256 checksum have that too, but only from `stat`.
std::shared_ptr<source> make_s3_source(const location& from, aws_environment environment,
                                       std::shared_ptr<http_client> over);

} // namespace troupe::storage
