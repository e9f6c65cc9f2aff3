#pragma once
#include <chrono>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>

#include "base/error.hpp"

namespace asio::ssl {
class context;
}

namespace troupe::gateway {

/// Both PEM: the certificate with those between it and a root below it, and its key.
struct tls_files {
  std::filesystem::path certificate, key;
};

/// Who a listener says it is, in TLS 1.2 and 1.3. New connections see what was read last; those
/// that are open keep what they began with. Any thread.
class tls_identity {
public:
  /// Fails naming the file and what is wrong with it: missing, no PEM, a key with a passphrase or
  /// of another certificate.
  static caf::expected<std::shared_ptr<tls_identity>> load(tls_files files);
  /// Reads the files again; after a failure what was there before stays.
  caf::error reload();
  const tls_files& files() const { return files_; }
  std::shared_ptr<asio::ssl::context> context() const;
  /// A sentence about a certificate that is not good at that time, else nothing.
  std::string warning(std::chrono::system_clock::time_point now) const;

private:
  explicit tls_identity(tls_files files) : files_{std::move(files)} {}

  const tls_files files_;
  mutable std::mutex lock_; ///< guards what follows
  std::shared_ptr<asio::ssl::context> context_;
  std::chrono::system_clock::time_point begins_, ends_;
};

} // namespace troupe::gateway
