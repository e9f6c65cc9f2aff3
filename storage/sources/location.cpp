#include "storage/sources/location.hpp"

#include <algorithm>
#include <array>
#include <memory>
#include <optional>

#include <curl/urlapi.h>

#include "base/text.hpp"
#include "storage/errors.hpp"
#include "storage/gguf_files.hpp"
#include "storage/sources/source.hpp"

namespace troupe::storage {

namespace {

constexpr size_t reference_bytes_max = 2048;

bool is_alnum(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

std::string trimmed_slashes(std::string_view text) {
  while (text.ends_with('/'))
    text.remove_suffix(1);
  while (text.starts_with('/'))
    text.remove_prefix(1);
  return std::string{text};
}

std::string last_name(std::string_view path) {
  while (path.ends_with('/'))
    path.remove_suffix(1);
  const auto slash = path.rfind('/');
  return std::string{slash == std::string_view::npos ? path : path.substr(slash + 1)};
}

caf::error bad(std::string_view text, const std::string& why) {
  auto shown = without_credentials(text).substr(0, 200);
  std::replace_if(
      shown.begin(), shown.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');
  return caf::make_error(errc::bad_reference, "'" + shown + "' is no reference to a model: " + why);
}

caf::expected<location> parse_file(std::string_view text, std::string_view rest) {
  location out;
  if (rest.starts_with("localhost/"))
    rest.remove_prefix(9);
  if (!rest.starts_with('/'))
    return bad(text, "write file:///absolute/path");
  out.path = std::filesystem::path{percent_decode(rest)}.lexically_normal();
  if (out.path.native().find('\0') != std::string::npos)
    return bad(text, "its path has a zero byte");
  out.text = "file://" + percent_encode(out.path.string(), true);
  out.model_name = last_name(out.path.string());
  return out;
}

/// One part of a parsed URL, or nothing.
std::optional<std::string> url_part(CURLU* url, CURLUPart part, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(url, part, &text, flags) != CURLUE_OK)
    return std::nullopt;
  std::string out{text};
  curl_free(text);
  return out;
}

/// Whether a reference without a scheme names the public hub.
bool names_hub(std::string_view text) {
  return text.starts_with("hf.co/") || text.starts_with("huggingface.co/");
}

/// "org/name/...", as a reference to the hub has it, if `text` is that of a page or a GGUF file of
/// the public hub, with or without its scheme; else empty.
std::string hub_page(std::string_view text) {
  const bool schemed = text.starts_with("https://");
  if (schemed)
    text.remove_prefix(8);
  const auto host = text.substr(0, text.find('/'));
  if ((host != "huggingface.co" && host != "hf.co") || host.size() == text.size())
    return {};
  text.remove_prefix(host.size() + 1);
  if (!schemed)
    return std::string{text};
  text = text.substr(0, text.find_first_of("?#"));
  while (text.ends_with('/'))
    text.remove_suffix(1);
  std::array<std::string_view, 4> parts; // org, name, what, revision; the rest is a path
  size_t found = 0;
  for (; found < parts.size() && !text.empty(); ++found) {
    const auto end = std::min(text.find('/'), text.size());
    parts[found] = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  const auto repository = std::string{parts[0]} + "/" + std::string{parts[1]};
  if (found == 2 && text.empty())
    return repository;
  if (found == 4 && parts[2] == "tree" && text.empty())
    return repository + "@" + std::string{parts[3]};
  if (found == 4 && (parts[2] == "blob" || parts[2] == "resolve") && is_gguf(text))
    return repository + "@" + std::string{parts[3]} + "/" + percent_decode(text);
  return {};
}

caf::expected<location> parse_http(std::string_view text) {
  location out;
  out.kind = location_kind::http;
  const std::unique_ptr<CURLU, decltype(&curl_url_cleanup)> url{curl_url(), curl_url_cleanup};
  const auto why = curl_url_set(url.get(), CURLUPART_URL, std::string{text}.c_str(), 0);
  if (why != CURLUE_OK)
    return bad(text, std::string{"the URL is wrong: "} + curl_url_strerror(why));
  if (const auto user = url_part(url.get(), CURLUPART_USER, CURLU_URLDECODE))
    out.credentials =
        *user + ":" + url_part(url.get(), CURLUPART_PASSWORD, CURLU_URLDECODE).value_or("");
  curl_url_set(url.get(), CURLUPART_USER, nullptr, 0);
  curl_url_set(url.get(), CURLUPART_PASSWORD, nullptr, 0);
  curl_url_set(url.get(), CURLUPART_FRAGMENT, nullptr, 0);
  if (url_part(url.get(), CURLUPART_QUERY))
    return bad(text, "a query (?...) cannot be joined with the names of files");
  const auto whole = url_part(url.get(), CURLUPART_URL);
  if (!whole)
    return bad(text, "the URL is wrong");
  out.url = *whole;
  while (out.url.ends_with('/'))
    out.url.pop_back();
  out.text = out.url;
  out.model_name = last_name(percent_decode(url_part(url.get(), CURLUPART_PATH).value_or("")));
  if (is_gguf(out.model_name))
    out.model_name = gguf_model_name(out.model_name);
  if (out.model_name.empty())
    out.model_name = url_part(url.get(), CURLUPART_HOST).value_or("");
  return out;
}

bool set_s3_option(location& out, std::string_view key, std::string value) {
  if (key == "endpoint")
    out.endpoint = std::move(value);
  else if (key == "region")
    out.region = std::move(value);
  else if (key == "addressing" && (value == "path" || value == "virtual"))
    out.addressing = std::move(value);
  else
    return false;
  return true;
}

caf::expected<location> parse_s3(std::string_view text, std::string_view rest) {
  location out;
  out.kind = location_kind::s3;
  std::string_view query;
  if (const auto at = rest.find('?'); at != std::string_view::npos) {
    query = rest.substr(at + 1);
    rest = rest.substr(0, at);
  }
  const auto slash = std::min(rest.find('/'), rest.size());
  out.bucket = rest.substr(0, slash);
  out.prefix = trimmed_slashes(rest.substr(slash));
  const auto allowed = [](char c) { return is_alnum(c) || c == '-' || c == '.' || c == '_'; };
  if (out.bucket.size() < 3 || out.bucket.size() > 63 || !is_alnum(out.bucket.front()) ||
      !is_alnum(out.bucket.back()) || !std::ranges::all_of(out.bucket, allowed))
    return bad(text, "write s3://bucket/prefix; a bucket has 3 to 63 letters, digits, '-', '.'");
  if (!out.prefix.empty() && !is_inner_path(out.prefix))
    return bad(text, "the prefix has empty names, '.' or '..' in it");
  if (is_gguf(out.prefix)) {
    out.gguf.file = last_name(out.prefix);
    out.prefix.resize(out.prefix.size() - out.gguf.file.size());
    out.prefix = trimmed_slashes(out.prefix);
  }
  while (!query.empty()) {
    const auto end = std::min(query.find('&'), query.size());
    const auto pair = query.substr(0, end);
    const auto equals = std::min(pair.find('='), pair.size());
    auto value = percent_decode(pair.substr(std::min(equals + 1, pair.size())));
    const bool wrong = value.find_first_of(std::string_view{"\0\r\n", 3}) != std::string::npos;
    if (wrong || value.empty() || !set_s3_option(out, pair.substr(0, equals), std::move(value)))
      return bad(text, "after '?' stand endpoint=URL, region=NAME, addressing=path or virtual");
    query = query.substr(std::min(end + 1, query.size()));
  }
  if (!out.endpoint.empty()) {
    auto endpoint = parse_location(out.endpoint);
    if (!endpoint || endpoint->kind != location_kind::http)
      return bad(text, "the endpoint is no http:// or https:// URL");
    out.endpoint = endpoint->url;
  }
  out.text = "s3://" + out.bucket + (out.prefix.empty() ? "" : "/" + out.prefix) +
             (out.gguf.file.empty() ? "" : "/" + out.gguf.file);
  char mark = '?';
  for (const auto& [key, value] : {std::pair<const char*, std::string&>{"endpoint", out.endpoint},
                                   {"region", out.region},
                                   {"addressing", out.addressing}})
    if (!value.empty()) {
      out.text += mark + std::string{key} + "=" + percent_encode(value, false);
      mark = '&';
    }
  out.model_name = !out.gguf.file.empty() ? gguf_model_name(out.gguf.file)
                   : out.prefix.empty()   ? out.bucket
                                          : last_name(out.prefix);
  return out;
}

/// The hub's own rules for one part of a repository's name.
bool is_hub_name(std::string_view name) {
  const auto allowed = [](char c) { return is_alnum(c) || c == '-' || c == '_' || c == '.'; };
  return !name.empty() && name.size() <= 96 && std::ranges::all_of(name, allowed) &&
         name.find("--") == std::string_view::npos && name.find("..") == std::string_view::npos &&
         name.front() != '-' && name.front() != '.' && name.back() != '-' && name.back() != '.';
}

/// Whether a path may follow behind "@revision/": its end is seen.
bool is_plain_revision(std::string_view revision) {
  const auto slashes = std::ranges::count(revision, '/');
  return revision.starts_with("refs/") ? slashes == 2 : slashes == 0 && revision != "refs";
}

/// Where the path of a file begins in "org/name[@revision]/path", at its '/'; npos = nowhere.
size_t hub_path_of(std::string_view rest) {
  const auto first = rest.find('/');
  const auto second = first == std::string_view::npos ? first : rest.find('/', first + 1);
  const auto at = rest.find('@');
  if (at == std::string_view::npos || (second != std::string_view::npos && at > second))
    return second;
  auto out = rest.find('/', at);
  if (rest.substr(at + 1).starts_with("refs/"))
    for (int i = 0; i < 2 && out != std::string_view::npos; ++i)
      out = rest.find('/', out + 1);
  return out;
}

/// Takes ":QUANTIZATION", ":FILE.gguf" or "/path/FILE.gguf" from the end of `rest`; says what is
/// wrong with it, or nothing.
std::string take_gguf_choice(std::string_view& rest, gguf_choice& out) {
  constexpr std::string_view latest = ":latest"; // as nobody's choice is called elsewhere
  while (rest.size() > latest.size() &&
         equal_ignoring_case(rest.substr(rest.size() - latest.size()), latest))
    rest.remove_suffix(latest.size());
  const auto colon = rest.rfind(':');
  const auto path = rest.ends_with(".gguf") ? hub_path_of(rest) : std::string_view::npos;
  const auto end = colon != std::string_view::npos ? colon : path;
  if (end == std::string_view::npos)
    return {};
  const auto word = rest.substr(end + 1);
  rest = rest.substr(0, end);
  if (word.ends_with(".gguf")) {
    out.file = word;
    return is_gguf(out.file) && is_inner_path(out.file) ? "" : "its path of a file is none";
  }
  const auto allowed = [](char c) { return is_alnum(c) || c == '-' || c == '_' || c == '.'; };
  if (word.empty() || word.size() > 64 || !std::ranges::all_of(word, allowed))
    return "after ':' stands a quantization as GGUF files are named by it (Q4_K_M), or a file";
  for (const char c : word)
    out.tag += c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
  return {};
}

caf::expected<location> parse_hub(std::string_view text, std::string_view rest) {
  location out;
  out.kind = location_kind::hub;
  out.revision = "main";
  if (const auto wrong = take_gguf_choice(rest, out.gguf); !wrong.empty())
    return bad(text, wrong);
  if (const auto at = rest.find('@'); at != std::string_view::npos) {
    out.revision = rest.substr(at + 1);
    rest = rest.substr(0, at);
    if (!is_inner_path(out.revision) || out.revision.size() > 255 ||
        out.revision.find(':') != std::string::npos)
      return bad(text, "after '@' stands a branch, a tag or a commit");
  }
  if (rest.ends_with('/'))
    rest.remove_suffix(1);
  const auto slash = rest.find('/');
  const bool fine = slash == std::string_view::npos
                        ? is_hub_name(rest)
                        : is_hub_name(rest.substr(0, slash)) && is_hub_name(rest.substr(slash + 1));
  if (!fine)
    return bad(text, "write hf://organisation/name or hf://organisation/name@revision, and behind "
                     "that :Q4_K_M or /FILE.gguf for one GGUF model of several");
  out.repository = rest;
  out.text = "hf://" + out.repository + (out.revision == "main" ? "" : "@" + out.revision);
  out.model_name = out.repository;
  if (const auto& tag = out.gguf.tag; !tag.empty()) {
    out.text += ":" + tag;
    out.model_name += ":" + tag;
  } else if (const auto& file = out.gguf.file; !file.empty()) {
    // As it is taken apart again.
    const bool seen =
        out.revision == "main" ? slash != std::string_view::npos : is_plain_revision(out.revision);
    out.text += (seen ? "/" : ":") + file;
    out.model_name +=
        "/" + file.substr(0, file.size() - last_name(file).size()) + gguf_model_name(file);
  }
  return out;
}

caf::expected<location> parse_any(std::string_view text) {
  if (text.empty() || text.size() > reference_bytes_max)
    return bad(text, "it has to have 1 to 2,048 characters");
  if (std::ranges::any_of(text, [](unsigned char c) { return c < 0x20 || c == 0x7f; }))
    return bad(text, "it has control characters");
  if (const auto page = hub_page(text); !page.empty() || names_hub(text))
    return parse_hub(text, page);
  if (!is_url(text)) {
    location out;
    out.path = std::filesystem::path{text}.lexically_normal();
    out.text = out.path.string();
    out.model_name = last_name(out.text);
    if (names_hub(out.text))
      out.text.insert(0, "./");
    return out;
  }
  const auto at = text.find("://");
  std::string scheme{text.substr(0, at)};
  std::ranges::transform(scheme, scheme.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; });
  const auto rest = text.substr(at + 3);
  if (scheme == "file")
    return parse_file(text, rest);
  if (scheme == "http" || scheme == "https") {
    auto out = parse_http(text);
    // Spelt otherwise, it may be a page of the hub.
    const auto page = out ? hub_page(out->url) : std::string{};
    return page.empty() ? out : parse_hub(text, page);
  }
  if (scheme == "s3")
    return parse_s3(text, rest);
  if (scheme == "hf")
    return parse_hub(text, rest);
  return bad(text, scheme + ":// is not known; there are file, http, https, s3 and hf");
}

} // namespace

bool is_url(std::string_view text) {
  if (names_hub(text))
    return true;
  const auto at = text.find("://");
  return at != std::string_view::npos && at > 0 &&
         std::ranges::all_of(text.substr(0, at), is_alnum);
}

namespace {

/// What a reference may say behind its '?': the values say where, and open nothing.
bool is_open_option(std::string_view key) {
  return key == "endpoint" || key == "region" || key == "addressing";
}

std::string replace_credentials(std::string_view reference, std::string_view instead);

/// A query without what may be a signature or a token: of pairs that no reference has, the values.
std::string hidden_query(std::string_view query, std::string_view instead) {
  std::string out;
  while (!query.empty()) {
    const auto end = std::min(query.find('&'), query.size());
    const auto pair = query.substr(0, end);
    const auto key = pair.substr(0, pair.find('='));
    const auto value = pair.substr(std::min(key.size() + 1, pair.size()));
    if (key.size() == pair.size())
      out += hidden_credentials;
    else if (!is_open_option(key))
      out += std::string{key} + "=" + std::string{hidden_credentials};
    else if (const auto plain = percent_decode(value), shown = replace_credentials(plain, instead);
             shown != plain)
      out += std::string{key} + "=" + shown;
    else
      out += pair;
    out += end < query.size() ? "&" : "";
    query.remove_prefix(std::min(end + 1, query.size()));
  }
  return out;
}

/// Hides what stands behind the '?' or '#' of a URL whose host is at `host`.
void hide_query(std::string& text, size_t host, std::string_view instead) {
  const auto end = std::min(text.find_first_of(" \t\r\n'\"", host), text.size());
  const auto hash = std::min(text.find('#', host), end);
  if (hash + 1 < end)
    text.replace(hash + 1, end - hash - 1, hidden_credentials);
  if (const auto mark = text.find('?', host); mark < hash)
    text.replace(mark + 1, hash - mark - 1,
                 hidden_query(std::string_view{text}.substr(mark + 1, hash - mark - 1), instead));
}

/// Puts `instead` in the place of each user and password, and of the '@' behind them; hides what
/// may be a secret in queries.
std::string replace_credentials(std::string_view reference, std::string_view instead) {
  std::string out{reference};
  if (names_hub(out))
    hide_query(out, 0, instead);
  for (size_t at = out.find("://"); at != std::string::npos; at = out.find("://", at)) {
    at += 3;
    // A password may hold a '?' or '#' that nobody encoded; what is host is then anybody's guess.
    const auto slash = std::min(out.find('/', at), out.size());
    if (const auto query = out.find_first_of("?#", at);
        query < slash && out.find('@', query) < slash)
      out.replace(at, slash - at, hidden_credentials);
    hide_query(out, at, instead);
    const auto end = std::min(out.find_first_of("/?#", at), out.size());
    // A password may hold an '@' that nobody encoded.
    const auto mark = std::string_view{out}.substr(0, end).rfind('@');
    if (mark != std::string::npos && mark >= at && !out.starts_with("hf://"))
      out.replace(at, mark + 1 - at, instead);
  }
  return out;
}

} // namespace

std::string without_credentials(std::string_view reference) {
  return replace_credentials(reference, {});
}

std::string with_hidden_credentials(std::string_view reference) {
  return replace_credentials(reference, std::string{hidden_credentials} + "@");
}

caf::expected<location> parse_location(std::string_view text) {
  auto out = parse_any(text);
  if (out)
    out->whole_text = out->credentials.empty() ? out->text : std::string{text};
  return out;
}

std::string percent_encode(std::string_view text, bool keep_slashes) {
  constexpr char digits[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    if (is_alnum(c) || c == '-' || c == '.' || c == '_' || c == '~' || (c == '/' && keep_slashes)) {
      out += c;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    out += {'%', digits[byte >> 4], digits[byte & 15]};
  }
  return out;
}

std::string percent_decode(std::string_view text) {
  const auto digit = [](char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
  };
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && digit(text[i + 1]) >= 0 &&
        digit(text[i + 2]) >= 0) {
      out += static_cast<char>(digit(text[i + 1]) * 16 + digit(text[i + 2]));
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::string link_name(const location& where) {
  switch (where.kind) {
  case location_kind::file:
    return "file";
  case location_kind::http:
    // "scheme://host", whatever the path.
    return where.url.substr(0, where.url.find('/', where.url.find("://") + 3));
  case location_kind::s3:
    return where.endpoint.empty() ? "s3://" + where.bucket : where.endpoint;
  case location_kind::hub:
    return "hf";
  }
  return {};
}

} // namespace troupe::storage
