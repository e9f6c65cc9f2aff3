#include "storage/sources/hub_source.hpp"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <mutex>
#include <set>

#include <simdjson.h>

#include "storage/catalog.hpp"
#include "storage/errors.hpp"
#include "storage/model_dir.hpp"
#include "storage/sources/http_range.hpp"
#include "storage/sources/location.hpp"

namespace troupe::storage {

namespace {

constexpr size_t files_max = 100'000;
constexpr int redirects_max = 5;

std::string without_quotes(std::string etag) {
  if (etag.starts_with("W/"))
    etag.erase(0, 2);
  if (etag.size() >= 2 && etag.front() == '"' && etag.back() == '"')
    etag = etag.substr(1, etag.size() - 2);
  return etag;
}

/// An ETag becomes a file's name in the cache.
bool is_blob_name(std::string_view etag) {
  return etag.size() <= 128 && is_inner_path(etag) && etag.find('/') == std::string_view::npos;
}

std::optional<uint64_t> number(const std::string& text) {
  uint64_t out = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (text.empty() || code != std::errc{} || end != text.data() + text.size())
    return std::nullopt;
  return out;
}

class hub final : public hub_source {
public:
  hub(const location& from, hub_account account, std::shared_ptr<http_client> over)
      : name_{name_of(from)}, repository_{from.repository}, revision_{from.revision},
        account_{std::move(account)}, over_{std::move(over)} {
    while (account_.endpoint.ends_with('/'))
      account_.endpoint.pop_back();
  }

  const std::string& name() const override { return name_; }

  caf::expected<std::string> commit(std::stop_token stop) override {
    auto known = listing(stop);
    if (!known)
      return std::move(known.error());
    return (*known)->commit;
  }

  caf::expected<source_file> stat(const std::string& path, std::stop_token stop) override {
    auto known = listing(stop);
    if (!known)
      return std::move(known.error());
    const auto& files = (*known)->files;
    const auto at = std::ranges::find(files, path, &source_file::path);
    if (at == files.end())
      return caf::make_error(errc::not_found, name_ + ": has no file " + path);
    return at->version.empty() ? ask(path, (*known)->commit, stop) : *at;
  }

  caf::expected<std::vector<source_file>> list(std::stop_token stop) override {
    auto known = listing(stop);
    if (!known)
      return std::move(known.error());
    auto out = (*known)->files;
    for (auto& file : out)
      if (file.version.empty()) {
        auto asked = ask(file.path, (*known)->commit, stop);
        if (!asked)
          return std::move(asked.error());
        file = std::move(*asked);
      }
    return out;
  }

  caf::error stream(const source_file& file, byte_range range, const byte_sink& sink,
                    std::stop_token stop) override {
    auto known = listing(stop);
    if (!known)
      return std::move(known.error());
    // The bytes may come from elsewhere, under that place's ETag; the commit fixes what they are.
    return stream_range(*over_,
                        {request_for(resolve_url(file.path, (*known)->commit)), file, range, false,
                         "fetching " + file.path + " from " + name_, hint()},
                        sink, std::move(stop));
  }

private:
  /// The repository, whichever of its files are meant.
  static std::string name_of(const location& from) {
    return "hf://" + from.repository + (from.revision == "main" ? "" : "@" + from.revision);
  }

  http_request request_for(std::string url) const {
    http_request out{.url = std::move(url)};
    if (!account_.token.empty())
      out.headers.push_back("Authorization: Bearer " + account_.token);
    return out;
  }

  std::string resolve_url(const std::string& path, const std::string& commit) const {
    return account_.endpoint + "/" + repository_ + "/resolve/" + commit + "/" +
           percent_encode(path, true);
  }

  std::string hint() const {
    return account_.token.empty()
               ? "a private or gated model needs a token: set HF_TOKEN"
               : "the token may not see it: accept the model's terms on the hub, or use another";
  }

  caf::expected<std::shared_ptr<const hub_listing>> listing(const std::stop_token& stop) {
    const std::lock_guard guard{mutex_}; // one question, however many threads want the answer
    if (listing_)
      return listing_;
    const auto what = "looking up " + name_ + " at " + shown_endpoint();
    auto answer =
        over_->fetch(request_for(account_.endpoint + "/api/models/" + repository_ + "/revision/" +
                                 percent_encode(revision_, false) + "?blobs=true"),
                     stop);
    if (!answer)
      return caf::make_error(static_cast<errc>(answer.error().code()),
                             what + ": " + describe(answer.error()));
    if (!answer->ok())
      return refusal(*answer, what);
    auto parsed = parse_hub_listing(answer->field(":body"), what);
    if (!parsed)
      return std::move(parsed.error());
    listing_ = std::make_shared<const hub_listing>(std::move(*parsed));
    return listing_;
  }

  std::string shown_endpoint() const { return without_credentials(account_.endpoint); }

  /// The hub says in a field what a 401 or 404 really means.
  caf::error refusal(const http_head& answer, const std::string& what) const {
    const auto& code = answer.field("x-error-code");
    if (code == "RepoNotFound" && answer.status == 401)
      return caf::make_error(errc::not_found,
                             what + ": there is no such model, or it is private; " + hint());
    if (code == "RevisionNotFound")
      return caf::make_error(errc::not_found, what + ": the model has no revision " + revision_);
    if (code == "GatedRepo")
      return caf::make_error(errc::denied, what + ": the model is gated; accept its terms at " +
                                               shown_endpoint() + "/" + repository_ +
                                               " and set HF_TOKEN");
    return error_of(answer, what, hint());
  }

  /// One file by HEAD, for hubs whose listing leaves out sizes. The answer itself matters, not that
  /// of the storage it redirects to; only a redirect within the hub (a renamed model) is followed.
  caf::expected<source_file> ask(const std::string& path, const std::string& commit,
                                 const std::stop_token& stop) {
    const auto what = "looking up " + path + " of " + name_;
    auto request = request_for(resolve_url(path, commit));
    request.method = "HEAD";
    request.follow = false;
    request.headers.emplace_back("Accept-Encoding: identity");
    for (int i = 0; i < redirects_max; ++i) {
      auto answer = over_->fetch(request, stop);
      if (!answer)
        return caf::make_error(static_cast<errc>(answer.error().code()),
                               what + ": " + describe(answer.error()));
      const bool redirect = answer->status >= 300 && answer->status < 400;
      if (redirect && answer->field("location").starts_with('/')) {
        request.url = account_.endpoint + answer->field("location");
        continue;
      }
      if (!redirect && !answer->ok())
        return error_of(*answer, what, hint());
      return described(*answer, path, what);
    }
    return caf::make_error(errc::unreadable, what + ": redirected in a circle");
  }

  static caf::expected<source_file> described(const http_head& answer, const std::string& path,
                                              const std::string& what) {
    const auto either = [&](const char* first, const char* second) {
      const auto& linked = answer.field(first);
      return linked.empty() ? answer.field(second) : linked;
    };
    source_file out;
    out.path = path;
    out.version = without_quotes(either("x-linked-etag", "etag"));
    const auto size = number(either("x-linked-size", "content-length"));
    if (!size || !is_blob_name(out.version))
      return caf::make_error(errc::malformed, what + ": the hub tells no size or no ETag");
    out.size_bytes = *size;
    if (is_hex_digest(out.version, 64))
      out.sha256 = out.version;
    else if (is_hex_digest(out.version, 40) && answer.field("x-linked-etag").empty())
      out.git_blob = out.version;
    return out;
  }

  const std::string name_, repository_, revision_;
  hub_account account_;
  std::shared_ptr<http_client> over_;
  std::mutex mutex_;
  std::shared_ptr<const hub_listing> listing_;
};

using json_object = simdjson::dom::object;

std::string text_at(const json_object& from, std::string_view key) {
  std::string_view out;
  return from[key].get(out) == simdjson::SUCCESS ? std::string{out} : std::string{};
}

/// One entry of "siblings"; false if it cannot be what it should be.
bool parse_sibling(const json_object& from, source_file& out) {
  out.path = text_at(from, "rfilename");
  if (!is_inner_path(out.path))
    return false;
  uint64_t size = 0;
  const bool sized = from["size"].get(size) == simdjson::SUCCESS;
  json_object lfs;
  if (from["lfs"].get(lfs) == simdjson::SUCCESS) {
    out.sha256 = text_at(lfs, "sha256");
    if (out.sha256.empty())
      out.sha256 = text_at(lfs, "oid");
    if (!is_hex_digest(out.sha256, 64) || lfs["size"].get(size) != simdjson::SUCCESS)
      return false;
    out.version = out.sha256;
  } else if (const auto blob = text_at(from, "blobId"); sized && is_hex_digest(blob, 40)) {
    out.version = out.git_blob = blob;
  }
  out.size_bytes = size;
  return true;
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string first_word(std::string text) {
  const auto begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos)
    return {};
  return text.substr(begin, text.find_first_of(" \t\r\n", begin) - begin);
}

} // namespace

bool is_hex_digest(std::string_view text, size_t digits) {
  return text.size() == digits && std::ranges::all_of(text, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

caf::expected<hub_listing> parse_hub_listing(std::string_view json, const std::string& origin) {
  const auto bad = [&](const std::string& why) {
    return caf::make_error(errc::malformed, origin + ": the hub's answer makes no sense: " + why);
  };
  simdjson::dom::parser parser;
  json_object root;
  if (parser.parse(json.data(), json.size()).get(root) != simdjson::SUCCESS)
    return bad("no JSON object");
  hub_listing out;
  out.commit = text_at(root, "sha");
  if (!is_hex_digest(out.commit, 40))
    return bad("no commit");
  simdjson::dom::array siblings;
  if (root["siblings"].get(siblings) != simdjson::SUCCESS)
    return bad("no list of files");
  for (const auto entry : siblings) {
    json_object object;
    source_file file;
    if (entry.get(object) != simdjson::SUCCESS || !parse_sibling(object, file))
      return bad("a file without a proper name, size or checksum");
    out.files.push_back(std::move(file));
    if (out.files.size() > files_max)
      return bad("more than " + std::to_string(files_max) + " files");
  }
  std::ranges::sort(out.files, {}, &source_file::path);
  const auto twice = std::ranges::adjacent_find(out.files, {}, &source_file::path);
  if (twice != out.files.end())
    return bad("the file " + twice->path + " twice");
  return out;
}

hub_account hub_account_of_environment() {
  hub_account out;
  if (auto endpoint = environment("HF_ENDPOINT"); !endpoint.empty())
    out.endpoint = std::move(endpoint);
  out.token = first_word(environment("HF_TOKEN"));
  if (out.token.empty())
    out.token = first_word(environment("HUGGING_FACE_HUB_TOKEN"));
  if (!out.token.empty())
    return out;
  std::filesystem::path file = environment("HF_TOKEN_PATH");
  if (file.empty())
    file = hub_home() / "token";
  out.token = first_word(read_small_file(file, 4096));
  return out;
}

std::shared_ptr<hub_source> make_hub_source(const location& from, hub_account account,
                                            std::shared_ptr<http_client> over) {
  return std::make_shared<hub>(from, std::move(account), std::move(over));
}

} // namespace troupe::storage
