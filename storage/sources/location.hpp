#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "base/error.hpp"
#include "storage/gguf_choice.hpp"

namespace troupe::storage {

enum class location_kind : uint8_t { file, http, s3, hub };

/// What a reference to a model means, taken apart. Only the members of its kind are set.
struct location {
  location_kind kind = location_kind::file;
  /// The reference in one canonical spelling and without credentials; parsing it again gives the
  /// same location, but for the credentials.
  std::string text;
  /// The same with credentials, for whoever is to fetch it; not to be shown.
  std::string whole_text;
  /// What the model is called if nobody says otherwise: "org/name" for a hub, with ":TAG" or the
  /// name of its GGUF file behind it, else the last part.
  std::string model_name;

  std::filesystem::path path; ///< file: absolute, or relative as it was given

  std::string url;         ///< http: to the directory or file, no '/' at the end, no credentials
  std::string credentials; ///< http: "user:password" of the URL

  std::string bucket;                       ///< s3
  std::string prefix;                       ///< s3: of the keys, no '/' at its ends; may be empty
  std::string endpoint, region, addressing; ///< s3: what the query of the reference sets

  std::string repository; ///< hub: "org/name", or "name"
  std::string revision;   ///< hub: a branch, tag or commit; "main" if none was given

  /// hub, s3: which GGUF model of several; a tag is in capitals
  gguf_choice gguf;
};

/// Whether `text` begins like "scheme://", or names the hub without one.
bool is_url(std::string_view text);

/// Understands a path, file:///path, http(s)://host/path, s3://bucket/prefix (with
/// ?endpoint=URL&region=NAME&addressing=path|virtual if need be), s3://bucket/path/file.gguf,
/// hf://org/name[@revision], and of those hf://org/name[@revision]:QUANTIZATION and
/// hf://org/name[@revision]/path/file.gguf. hf.co/ and huggingface.co/ mean hf://, too, as does
/// the address of one of their pages of models or files.
/// Fails with `bad_reference`, naming the text and what would be right.
caf::expected<location> parse_location(std::string_view text);

/// The user and password of `with_hidden_credentials`, and what else may be a secret in a URL.
inline constexpr std::string_view hidden_credentials = "***";

/// The text of a reference without the user and password that a URL in it may name, and with "***"
/// in the place of what may be a signature or a token behind its '?' or '#': for messages.
std::string without_credentials(std::string_view reference);
/// The same, but saying that there are some.
std::string with_hidden_credentials(std::string_view reference);

/// What stands between this machine and there: "hf", "s3://bucket", "https://host". Locations of
/// one name share a link.
std::string link_name(const location& where);

/// Everything but letters, digits and -._~ (and '/' if `keep_slashes`) as %XX, as RFC 3986 and
/// Amazon's signatures want it.
std::string percent_encode(std::string_view text, bool keep_slashes);
/// %XX as bytes; anything else, a lone % too, as it is.
std::string percent_decode(std::string_view text);

} // namespace troupe::storage
