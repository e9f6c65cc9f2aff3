#pragma once
#include <memory>
#include <string>

#include "storage/sources/http.hpp"
#include "storage/sources/location.hpp"
#include "storage/sources/source.hpp"

namespace troupe::storage {

struct hub_account {
  std::string endpoint = "https://huggingface.co";
  std::string token; ///< empty = nobody's
};

/// HF_ENDPOINT; HF_TOKEN, else the file that HF_TOKEN_PATH names, else `token` in HF_HOME or
/// ~/.cache/huggingface, as the hub's own client looks for them.
hub_account hub_account_of_environment();

/// A model repository of a Hugging Face hub. The version of a file is the ETag without its quotes,
/// which is what the hub's cache names blobs by; files in LFS have their sha256, the others git's
/// id of their content.
class hub_source : public source {
public:
  /// The commit that the revision stands for; asks the hub once.
  virtual caf::expected<std::string> commit(std::stop_token stop = {}) = 0;
};

std::shared_ptr<hub_source> make_hub_source(const location& from, hub_account account,
                                            std::shared_ptr<http_client> over);

/// What /api/models/NAME/revision/REVISION?blobs=true answers.
struct hub_listing {
  std::string commit;
  std::vector<source_file> files; ///< version and size are empty where the hub did not say
};
/// Paths are checked; `origin` begins every message.
caf::expected<hub_listing> parse_hub_listing(std::string_view json, const std::string& origin);

/// 40 (git) or 64 (LFS) lower-case hex digits.
bool is_hex_digest(std::string_view text, size_t digits);

} // namespace troupe::storage
