#include "storage/sources/s3_source.hpp"

#include <algorithm>

#include "storage/errors.hpp"
#include "storage/sources/http_range.hpp"
#include "storage/sources/s3_listing.hpp"

namespace troupe::storage {

namespace {

constexpr size_t files_max = 100'000;

/// 32 bytes in base64 as hex; empty if it is not that (a checksum of parts has "-N" at its end).
std::string hex_of_base64(std::string_view text) {
  constexpr std::string_view alphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  if (text.size() != 44 || text.back() != '=')
    return {};
  std::string out;
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text.substr(0, 43)) {
    const auto at = alphabet.find(c);
    if (at == std::string_view::npos)
      return {};
    bits = bits << 6 | static_cast<uint32_t>(at);
    for (count += 6; count >= 4; count -= 4)
      out += "0123456789abcdef"[bits >> (count - 4) & 15];
  }
  out.resize(64);
  return out;
}

class s3_source final : public source {
public:
  s3_source(const location& from, aws_environment environment, std::shared_ptr<http_client> over)
      : name_{from.text}, bucket_{from.bucket}, prefix_{from.prefix},
        credentials_{std::move(environment)}, over_{std::move(over)} {
    const auto& told = credentials_.environment();
    endpoint_ = from.endpoint.empty() ? told.endpoint : from.endpoint;
    while (endpoint_.ends_with('/'))
      endpoint_.pop_back();
    region_ = from.region;
    const auto addressing = from.addressing.empty() ? told.addressing : from.addressing;
    // Certificates cover one label before Amazon's name; other servers often have no such names.
    path_style_ = addressing.empty() ? !endpoint_.empty() || bucket_.find('.') != std::string::npos
                                     : addressing == "path";
  }

  const std::string& name() const override { return name_; }

  caf::expected<source_file> stat(const std::string& path, std::stop_token stop) override {
    if (!is_inner_path(path))
      return caf::make_error(errc::malformed, name_ + ": '" + path + "' is not a path below it");
    const auto what = "looking up " + path + " of " + name_;
    auto request = signed_request(key_url(path, stop), stop);
    if (!request)
      return std::move(request.error());
    request->method = "HEAD";
    request->headers.emplace_back("x-amz-checksum-mode: ENABLED");
    auto answer = over_->fetch(*request, stop);
    if (!answer)
      return caf::make_error(static_cast<errc>(answer.error().code()),
                             what + ": " + describe(answer.error()));
    if (!answer->ok())
      return refusal(*answer, what);
    source_file out;
    out.path = path;
    out.version = answer->field("etag");
    out.addressed = addressed(path, out.version);
    out.sha256 = hex_of_base64(answer->field("x-amz-checksum-sha256"));
    const auto& length = answer->field("content-length");
    if (length.empty() || length.find_first_not_of("0123456789") != std::string::npos ||
        length.size() > 18)
      return caf::make_error(errc::malformed, what + ": the answer has no length");
    out.size_bytes = std::stoull(length);
    return out;
  }

  caf::expected<std::vector<source_file>> list(std::stop_token stop) override {
    std::vector<source_file> out;
    std::string token;
    const auto what = "listing " + name_;
    do {
      auto page = list_page(token, what, stop);
      if (!page)
        return std::move(page.error());
      const auto strip = prefix_.empty() ? 0 : prefix_.size() + 1;
      for (auto& object : page->objects) {
        if (object.key.size() <= strip || object.key.ends_with('/'))
          continue; // what consoles put there as "directories"
        auto path = object.key.substr(strip);
        if (!is_inner_path(path))
          return caf::make_error(errc::unsupported,
                                 what + ": the key '" + object.key + "' cannot be a file's name");
        auto common = addressed(path, object.etag);
        out.push_back({.path = std::move(path),
                       .size_bytes = object.size_bytes,
                       .version = std::move(object.etag),
                       .sha256 = {},
                       .addressed = std::move(common)});
      }
      if (out.size() > files_max)
        return caf::make_error(errc::unsupported,
                               what + ": more than " + std::to_string(files_max) + " objects");
      if (page->next == token && !token.empty())
        return caf::make_error(errc::malformed, what + ": the server lists the same page again");
      token = page->next;
    } while (!token.empty());
    if (out.empty())
      return caf::make_error(errc::not_found, what + ": there is nothing under this prefix");
    std::ranges::sort(out, {}, &source_file::path);
    return out;
  }

  caf::error stream(const source_file& file, byte_range range, const byte_sink& sink,
                    std::stop_token stop) override {
    auto request = signed_request(key_url(file.path, stop), stop);
    if (!request)
      return std::move(request.error());
    if (is_strong_etag(file.version))
      request->headers.push_back("If-Match: " + file.version);
    return stream_range(*over_,
                        {std::move(*request), file, range, true,
                         "fetching " + file.path + " from " + name_, hint()},
                        sink, std::move(stop));
  }

private:
  std::string addressed(const std::string& path, const std::string& etag) const {
    if (!is_strong_etag(etag))
      return {};
    return "s3 " + endpoint_ + " " + bucket_ + " " + prefix_ + " " + path + " " + etag;
  }

  /// Up to and without the '/' before a key.
  std::string base_url(const std::stop_token& stop) {
    auto endpoint = endpoint_.empty() ? "https://s3." + region(stop) + ".amazonaws.com" : endpoint_;
    if (path_style_)
      return endpoint + "/" + bucket_;
    const auto host = endpoint.find("://") + 3;
    return endpoint.substr(0, host) + bucket_ + "." + endpoint.substr(host);
  }
  std::string key_url(const std::string& path, const std::stop_token& stop) {
    const auto key = prefix_.empty() ? path : prefix_ + "/" + path;
    return base_url(stop) + "/" + percent_encode(key, true);
  }
  std::string region(const std::stop_token& stop) {
    return region_.empty() ? credentials_.region(stop) : region_;
  }

  caf::expected<http_request> signed_request(std::string url, const std::stop_token& stop) {
    http_request out{.url = std::move(url)};
    // A signature is of one host and path; where another one is meant, the answer says so.
    out.follow = false;
    const auto who = credentials_.current(stop);
    if (!who)
      return who.error();
    if (who->key_id.empty())
      return out;
    out.credentials = who->key_id + ":" + who->secret;
    out.sigv4 = "aws:amz:" + region(stop) + ":s3";
    // The SHA-256 of no body. Amazon demands the field; libcurl 7.88 signs it but does not make it.
    out.headers.emplace_back(
        "x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    if (!who->session_token.empty())
      out.headers.push_back("X-Amz-Security-Token: " + who->session_token);
    return out;
  }

  caf::expected<s3_listing> list_page(const std::string& token, const std::string& what,
                                      const std::stop_token& stop) {
    // In the order of their names: the signature is of this very text.
    std::string query = "?";
    if (!token.empty())
      query += "continuation-token=" + percent_encode(token, false) + "&";
    query += "list-type=2&prefix=" + percent_encode(prefix_.empty() ? "" : prefix_ + "/", false);
    auto request = signed_request(base_url(stop) + (path_style_ ? "" : "/") + query, stop);
    if (!request)
      return std::move(request.error());
    auto answer = over_->fetch(*request, stop);
    if (!answer)
      return caf::make_error(static_cast<errc>(answer.error().code()),
                             what + ": " + describe(answer.error()));
    if (!answer->ok())
      return refusal(*answer, what);
    return parse_s3_listing(answer->field(":body"), what);
  }

  std::string hint() const {
    return "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, for an account that "
           "may read it";
  }

  caf::error refusal(const http_head& answer, const std::string& what) {
    const auto told = s3_refusal(answer.field(":body"));
    const auto& home = answer.field("x-amz-bucket-region");
    if ((answer.status == 301 || answer.status == 307 || answer.status == 400) && !home.empty())
      return caf::make_error(errc::bad_reference, what + ": the bucket is in the region " + home +
                                                      "; add ?region=" + home +
                                                      " to the reference, or set AWS_REGION");
    return error_of(answer, what + (told.empty() ? "" : " (" + told + ")"), hint());
  }

  const std::string name_, bucket_, prefix_;
  s3_credential_store credentials_;
  std::shared_ptr<http_client> over_;
  std::string endpoint_, region_;
  bool path_style_ = false;
};

} // namespace

std::shared_ptr<source> make_s3_source(const location& from, aws_environment environment,
                                       std::shared_ptr<http_client> over) {
  return std::make_shared<s3_source>(from, std::move(environment), std::move(over));
}

} // namespace troupe::storage
