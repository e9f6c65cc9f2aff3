#include "storage/sources/s3_credentials.hpp"

#include <algorithm>
#include <cstdlib>
#include <ctime>

#include <simdjson.h>

#include "storage/errors.hpp"
#include "storage/model_dir.hpp"
#include "storage/sources/location.hpp"

namespace troupe::storage {

namespace {

using system_clock = std::chrono::system_clock;

constexpr uint64_t profile_bytes_max = 1 << 20;
/// Renewed so long before they end, so that no request that is under way loses them.
constexpr auto renewal = std::chrono::minutes{5};

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos)
    return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::filesystem::path file_of(const char* variable, const char* name) {
  if (auto given = environment(variable); !given.empty())
    return given;
  const auto home = environment("HOME");
  return home.empty() ? std::filesystem::path{} : std::filesystem::path{home} / ".aws" / name;
}

/// "2026-01-02T03:04:05Z".
std::optional<system_clock::time_point> parse_time(const std::string& text) {
  std::tm parts{};
  const char* end = strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &parts);
  if (end == nullptr)
    return std::nullopt;
  return system_clock::from_time_t(timegm(&parts));
}

void apply_profile(aws_environment& out) {
  auto name = environment("AWS_PROFILE");
  if (name.empty())
    name = "default";
  auto config =
      parse_aws_profiles(read_small_file(file_of("AWS_CONFIG_FILE", "config"), profile_bytes_max));
  auto secrets = parse_aws_profiles(
      read_small_file(file_of("AWS_SHARED_CREDENTIALS_FILE", "credentials"), profile_bytes_max));
  auto merged = secrets[name];
  merged.merge(config[name]); // what the credentials file says wins
  const auto take = [&](const char* key, std::string& into) {
    if (const auto at = merged.find(key); into.empty() && at != merged.end())
      into = at->second;
  };
  if (out.fixed.key_id.empty()) {
    out.fixed.session_token.clear();
    take("aws_access_key_id", out.fixed.key_id);
    take("aws_secret_access_key", out.fixed.secret);
    take("aws_session_token", out.fixed.session_token);
  }
  take("region", out.region);
  take("s3.endpoint_url", out.endpoint);
  take("endpoint_url", out.endpoint);
  take("s3.addressing_style", out.addressing);
}

} // namespace

aws_profiles parse_aws_profiles(std::string_view text) {
  aws_profiles out;
  std::string section, block;
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    const auto raw = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const auto line = trimmed(raw);
    if (line.empty() || line.front() == '#' || line.front() == ';')
      continue;
    if (line.front() == '[') {
      auto name = trimmed(line.substr(1, line.find(']') - 1));
      if (name.starts_with("profile "))
        name = trimmed(name.substr(8));
      section = name;
      block.clear();
      continue;
    }
    const auto equals = line.find('=');
    if (equals == std::string_view::npos || section.empty())
      continue;
    const std::string key{trimmed(line.substr(0, equals))};
    const std::string value{trimmed(line.substr(equals + 1))};
    const bool nested = (raw.front() == ' ' || raw.front() == '\t') && !block.empty();
    if (!nested)
      block = value.empty() ? key : "";
    out[section][nested ? block + "." + key : key] = value;
  }
  return out;
}

aws_environment read_aws_environment() {
  aws_environment out;
  out.fixed.key_id = environment("AWS_ACCESS_KEY_ID");
  out.fixed.secret = environment("AWS_SECRET_ACCESS_KEY");
  out.fixed.session_token = environment("AWS_SESSION_TOKEN");
  if (out.fixed.secret.empty())
    out.fixed = {};
  const auto first_of = [](const char* a, const char* b) {
    auto text = environment(a);
    return text.empty() ? environment(b) : text;
  };
  out.endpoint = first_of("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL");
  out.region = first_of("AWS_REGION", "AWS_DEFAULT_REGION");
  apply_profile(out);
  if (out.addressing == "auto")
    out.addressing.clear();
  out.ask_instance = environment("AWS_EC2_METADATA_DISABLED") != "true";
  if (auto metadata = environment("AWS_EC2_METADATA_SERVICE_ENDPOINT"); !metadata.empty())
    out.metadata = std::move(metadata);
  while (out.metadata.ends_with('/'))
    out.metadata.pop_back();
  out.container = environment("AWS_CONTAINER_CREDENTIALS_FULL_URI");
  if (auto path = environment("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"); !path.empty())
    out.container = "http://169.254.170.2" + path;
  out.container_token = environment("AWS_CONTAINER_AUTHORIZATION_TOKEN");
  out.container_token_file = environment("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
  return out;
}

caf::expected<s3_credentials> parse_instance_credentials(std::string_view json,
                                                         const std::string& origin) {
  simdjson::dom::parser parser;
  simdjson::dom::object root;
  s3_credentials out;
  const auto text = [&](const char* key) {
    std::string_view value;
    return root[key].get(value) == simdjson::SUCCESS ? std::string{value} : std::string{};
  };
  if (parser.parse(json.data(), json.size()).get(root) == simdjson::SUCCESS) {
    out.key_id = text("AccessKeyId");
    out.secret = text("SecretAccessKey");
    out.session_token = text("Token");
    if (const auto when = parse_time(text("Expiration")))
      out.expires = *when;
  }
  if (out.key_id.empty() || out.secret.empty())
    return caf::make_error(errc::malformed, origin + ": no credentials in the answer");
  return out;
}

s3_credential_store::s3_credential_store(aws_environment from) : from_{std::move(from)} {
  held_ = from_.fixed;
  region_ = from_.region;
}

caf::expected<std::string> s3_credential_store::ask_instance(const std::string& path,
                                                             const std::stop_token& stop) {
  const auto what =
      "asking the instance metadata service at " + without_credentials(from_.metadata);
  const auto send = [&](const http_request& request) -> caf::expected<std::string> {
    auto answer = metadata_.fetch(request, stop, 1 << 20);
    if (!answer)
      return caf::make_error(errc::unavailable, what + ": " + describe(answer.error()));
    if (!answer->ok())
      return error_of(*answer, what);
    return answer->field(":body");
  };
  const auto token = send({.url = from_.metadata + "/latest/api/token",
                           .method = "PUT",
                           .headers = {"X-aws-ec2-metadata-token-ttl-seconds: 300"}});
  if (!token)
    return token.error();
  return send({.url = from_.metadata + path, .headers = {"X-aws-ec2-metadata-token: " + *token}});
}

caf::expected<s3_credentials> s3_credential_store::of_container(const std::stop_token& stop) {
  const auto what =
      "asking for the container's credentials at " + without_credentials(from_.container);
  http_request request{.url = from_.container, .follow = false};
  auto token = from_.container_token;
  if (const auto& file = from_.container_token_file; !file.empty())
    token = trimmed(read_small_file(file, profile_bytes_max));
  while (!token.empty() && token.back() <= ' ')
    token.pop_back();
  if (token.find_first_of("\r\n") != std::string::npos)
    return caf::make_error(errc::malformed, what + ": the token has several lines");
  if (!token.empty())
    request.headers.push_back("Authorization: " + token);
  const auto answer = metadata_.fetch(request, stop, 1 << 20);
  if (!answer)
    return caf::make_error(errc::unavailable, what + ": " + describe(answer.error()));
  if (!answer->ok())
    return error_of(*answer, what);
  return parse_instance_credentials(answer->field(":body"), what);
}

/// Of the role that the instance has; empty credentials if this is none, or it has no role.
caf::expected<s3_credentials> s3_credential_store::of_instance(const std::stop_token& stop) {
  const std::string base = "/latest/meta-data/iam/security-credentials/";
  const auto role = ask_instance(base, stop);
  if (!role) {
    if (stop.stop_requested())
      return role.error();
    no_instance_ = held_.key_id.empty(); // most machines are no instance: ask once only
    if (no_instance_)
      return s3_credentials{};
    return role.error();
  }
  const auto name = role->substr(0, role->find_first_of("\r\n"));
  const auto json = ask_instance(base + percent_encode(name, false), stop);
  if (!json)
    return json.error();
  return parse_instance_credentials(*json, "the instance's role " + name);
}

caf::expected<s3_credentials> s3_credential_store::current(std::stop_token stop) {
  const std::lock_guard guard{mutex_};
  const bool lasting = held_.expires == system_clock::time_point::max();
  if (!held_.key_id.empty() && (lasting || held_.expires - renewal > system_clock::now()))
    return held_;
  if (from_.container.empty() && (!from_.ask_instance || no_instance_))
    return s3_credentials{};
  auto fresh = from_.container.empty() ? of_instance(stop) : of_container(stop);
  if (fresh)
    held_ = *fresh;
  else if (held_.expires > system_clock::now() && !held_.key_id.empty() && !stop.stop_requested())
    return held_; // good for a little while yet; the next request asks again
  return fresh;
}

std::string s3_credential_store::region(std::stop_token stop) {
  const std::lock_guard guard{mutex_};
  if (!region_.empty())
    return region_;
  if (from_.ask_instance && !no_instance_ && from_.fixed.key_id.empty())
    if (const auto told = ask_instance("/latest/meta-data/placement/region", stop))
      region_ = told->substr(0, told->find_first_of(" \r\n"));
  if (region_.empty())
    region_ = "us-east-1";
  return region_;
}

} // namespace troupe::storage
