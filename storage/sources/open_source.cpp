#include "storage/sources/open_source.hpp"

#include "storage/sources/file_source.hpp"
#include "storage/sources/http_source.hpp"
#include "storage/sources/s3_source.hpp"

namespace troupe::storage {

caf::expected<std::shared_ptr<source>> open_source(const location& from,
                                                   std::shared_ptr<http_client> over) {
  switch (from.kind) {
  case location_kind::http:
    return make_http_source(from, std::move(over));
  case location_kind::s3:
    return make_s3_source(from, read_aws_environment(), std::move(over));
  case location_kind::hub:
    return std::shared_ptr<source>{
        make_hub_source(from, hub_account_of_environment(), std::move(over))};
  case location_kind::file:
    break;
  }
  return open_file_source(from.path);
}

} // namespace troupe::storage
