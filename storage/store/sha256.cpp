#include "storage/store/sha256.hpp"

#include <array>
#include <optional>

#include <openssl/evp.h>

namespace troupe::storage {

namespace {

/// One digest under way.
class hasher {
public:
  explicit hasher(const EVP_MD* kind) { EVP_DigestInit_ex(context_, kind, nullptr); }
  hasher(const hasher&) = delete;
  hasher& operator=(const hasher&) = delete;
  ~hasher() { EVP_MD_CTX_free(context_); }
  void add(std::span<const std::byte> piece) {
    EVP_DigestUpdate(context_, piece.data(), piece.size());
  }
  std::string hex() {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned size = 0;
    EVP_DigestFinal_ex(context_, digest.data(), &size);
    std::string out;
    for (const auto byte : std::span{digest}.first(size))
      out += {"0123456789abcdef"[byte >> 4], "0123456789abcdef"[byte & 15]};
    return out;
  }

private:
  EVP_MD_CTX* context_ = EVP_MD_CTX_new();
};

} // namespace

struct sha256::state : hasher {
  state() : hasher{EVP_sha256()} {}
};

sha256::sha256() : state_{std::make_unique<state>()} {}
sha256::~sha256() = default;
sha256::sha256(sha256&&) noexcept = default;
sha256& sha256::operator=(sha256&&) noexcept = default;

void sha256::add(std::span<const std::byte> piece) { state_->add(piece); }
std::string sha256::hex() { return state_->hex(); }

struct vouched_sum::state {
  std::string expected, kind;
  hasher sum;
  /// Of the content alone: what some servers before a hub give in the place of git's id.
  std::optional<hasher> plain;

  explicit state(const source_file& file)
      : expected{file.sha256.empty() ? file.git_blob : file.sha256},
        kind{file.sha256.empty() ? "git id" : "sha256"}, sum{file.sha256.empty() ? EVP_sha1()
                                                                                 : EVP_sha256()} {
    if (!file.sha256.empty())
      return;
    const auto head = "blob " + std::to_string(file.size_bytes);
    sum.add(std::as_bytes(std::span{head.c_str(), head.size() + 1}));
    plain.emplace(EVP_sha1());
  }
};

vouched_sum::vouched_sum(const source_file& file) : state_{std::make_unique<state>(file)} {}
vouched_sum::~vouched_sum() = default;
vouched_sum::vouched_sum(vouched_sum&&) noexcept = default;
vouched_sum& vouched_sum::operator=(vouched_sum&&) noexcept = default;

void vouched_sum::add(std::span<const std::byte> piece) {
  state_->sum.add(piece);
  if (state_->plain)
    state_->plain->add(piece);
}

std::string vouched_sum::complaint() {
  const auto found = state_->sum.hex();
  if (found == state_->expected || (state_->plain && state_->plain->hex() == state_->expected))
    return {};
  return "the " + state_->kind + " is " + found + ", not " + state_->expected;
}

} // namespace troupe::storage
