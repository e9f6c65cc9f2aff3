#include "storage/store/sha256.hpp"

#include <openssl/evp.h>

namespace troupe::storage {

struct sha256::state {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  state() = default;
  state(const state&) = delete;
  state& operator=(const state&) = delete;
  ~state() { EVP_MD_CTX_free(context); }
};

sha256::sha256() : state_{std::make_unique<state>()} {
  EVP_DigestInit_ex(state_->context, EVP_sha256(), nullptr);
}
sha256::~sha256() = default;
sha256::sha256(sha256&&) noexcept = default;
sha256& sha256::operator=(sha256&&) noexcept = default;

void sha256::add(std::span<const std::byte> piece) {
  EVP_DigestUpdate(state_->context, piece.data(), piece.size());
}

std::string sha256::hex() {
  unsigned char digest[32] = {};
  EVP_DigestFinal_ex(state_->context, digest, nullptr);
  std::string out;
  for (const auto byte : digest)
    out += {"0123456789abcdef"[byte >> 4], "0123456789abcdef"[byte & 15]};
  return out;
}

} // namespace troupe::storage
