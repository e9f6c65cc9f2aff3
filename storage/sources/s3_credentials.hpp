#pragma once
#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <string_view>

#include "storage/sources/http.hpp"

namespace troupe::storage {

struct s3_credentials {
  std::string key_id; ///< empty = nobody's: requests are not signed
  std::string secret;
  std::string session_token;
  /// When they end; the far future for those of a person.
  std::chrono::system_clock::time_point expires = std::chrono::system_clock::time_point::max();
};

/// What an INI file of the AWS tools says: section -> key -> value. Sections are named without
/// "profile "; the indented lines of a nested block become "key.subkey". Never fails: what is no
/// line of such a file is left out.
using aws_profiles = std::map<std::string, std::map<std::string, std::string>>;
aws_profiles parse_aws_profiles(std::string_view text);

/// The settings of one profile, as the AWS tools merge them.
struct aws_environment {
  s3_credentials fixed;     ///< of the environment, else of the profile
  std::string endpoint;     ///< AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, else the profile's
  std::string region;       ///< AWS_REGION, AWS_DEFAULT_REGION, else the profile's
  std::string addressing;   ///< "path", "virtual" or empty
  bool ask_instance = true; ///< AWS_EC2_METADATA_DISABLED is not set
  std::string metadata = "http://169.254.169.254";
  std::string container;              ///< URL that tells a container its credentials; empty = none
  std::string container_token;        ///< for it, or
  std::string container_token_file{}; ///< the file with it, read each time as it is renewed
};
aws_environment read_aws_environment();

/// The role credentials in the JSON of the instance metadata service.
caf::expected<s3_credentials> parse_instance_credentials(std::string_view json,
                                                         const std::string& origin);

/// Gives out the credentials to sign with, and renews those of a container or of an instance's role
/// (IMDSv2) in time.
class s3_credential_store {
public:
  explicit s3_credential_store(aws_environment from);
  /// Empty credentials if there are none anywhere.
  caf::expected<s3_credentials> current(std::stop_token stop);
  /// Told or found out from the instance; "us-east-1" if nobody knows.
  std::string region(std::stop_token stop);
  const aws_environment& environment() const { return from_; }

private:
  caf::expected<std::string> ask_instance(const std::string& path, const std::stop_token& stop);
  caf::expected<s3_credentials> of_container(const std::stop_token& stop);
  caf::expected<s3_credentials> of_instance(const std::stop_token& stop);

  const aws_environment from_;
  /// The metadata service is next door: whoever does not answer at once is not there.
  http_client metadata_{{std::chrono::milliseconds{1000}, std::chrono::milliseconds{2000}}};
  std::mutex mutex_;
  s3_credentials held_;
  bool no_instance_ = false;
  std::string region_;
};

} // namespace troupe::storage
