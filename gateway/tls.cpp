#include "gateway/tls.hpp"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <optional>
#include <utility>

#include <asio/ssl/context.hpp>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "base/rfc3339.hpp"
#include "gateway/errors.hpp"

namespace troupe::gateway {

namespace {

using std::chrono::system_clock;

caf::error bad(const std::string& what) { return caf::make_error(errc::bad_certificate, what); }

/// Where OpenSSL says that the last failure began, and forgets.
std::string library_reason() {
  const auto code = ERR_peek_error();
  ERR_clear_error();
  const char* text = ERR_reason_error_string(code);
  return text ? text : "unknown";
}

caf::expected<std::string> read_file(const std::filesystem::path& file, const char* what) {
  std::ifstream in{file, std::ios::binary};
  std::string text(size_t{1} << 20, '\0'); // certificates are smaller, whatever the file is
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(in.gcount()));
  if (text.empty())
    return bad("cannot read the " + std::string{what} + " " + file.string() + ": " +
               (in.is_open() ? "the file is empty" : std::strerror(errno)));
  return text;
}

system_clock::time_point time_of(const ASN1_TIME* from) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(from, &parts) != 1)
    return {};
  const auto seconds = timegm(&parts);
  // The clock ends in 2262; certificates without an end name the year 9999.
  constexpr auto last = std::chrono::floor<std::chrono::seconds>(system_clock::time_point::max());
  return std::chrono::sys_seconds{std::chrono::seconds{seconds}} > last
             ? system_clock::time_point::max()
             : system_clock::from_time_t(seconds);
}

/// A client that offers protocols gets HTTP/1.1 if that is among them, else none is agreed on.
int choose_protocol(SSL*, const unsigned char** out, unsigned char* size, const unsigned char* in,
                    unsigned in_size, void*) {
  static constexpr unsigned char spoken[] = "\x08http/1.1";
  unsigned char* chosen = nullptr;
  if (SSL_select_next_proto(&chosen, size, spoken, sizeof spoken - 1, in, in_size) !=
      OPENSSL_NPN_NEGOTIATED)
    return SSL_TLSEXT_ERR_NOACK;
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

caf::error fill(SSL_CTX* to, const tls_files& files) {
  SSL_CTX_set_min_proto_version(to, TLS1_2_VERSION);
  SSL_CTX_set_options(to, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                              SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_IGNORE_UNEXPECTED_EOF);
  SSL_CTX_set_mode(to, SSL_MODE_RELEASE_BUFFERS); // of idle connections
  SSL_CTX_set_alpn_select_cb(to, choose_protocol, nullptr);
  // Nobody is there to type a passphrase.
  SSL_CTX_set_default_passwd_cb(to, [](char*, int, int, void*) { return -1; });
  if (const auto text = read_file(files.certificate, "certificate"); !text)
    return text.error();
  const auto key = read_file(files.key, "key of the certificate");
  if (!key)
    return key.error();
  ERR_clear_error();
  if (SSL_CTX_use_certificate_chain_file(to, files.certificate.c_str()) != 1)
    return bad(files.certificate.string() + " holds no certificate in PEM: " + library_reason());
  if (SSL_CTX_use_PrivateKey_file(to, files.key.c_str(), SSL_FILETYPE_PEM) == 1)
    return {};
  if (ERR_GET_LIB(ERR_peek_last_error()) == ERR_LIB_X509)
    return bad("the key " + files.key.string() + " is not that of the certificate " +
               files.certificate.string() + ": " + library_reason());
  const auto reason = library_reason();
  if (key->find("ENCRYPTED") != std::string::npos)
    return bad("the key " + files.key.string() +
               " has a passphrase: `openssl pkey -in OLD -out NEW` writes it without");
  return bad(files.key.string() + " holds no private key in PEM: " + reason);
}

} // namespace

caf::expected<std::shared_ptr<tls_identity>> tls_identity::load(tls_files files) {
  std::shared_ptr<tls_identity> out{new tls_identity{std::move(files)}};
  if (auto why = out->reload())
    return why;
  return out;
}

caf::error tls_identity::reload() {
  const auto made = std::make_shared<asio::ssl::context>(asio::ssl::context::tls_server);
  if (auto why = fill(made->native_handle(), files_))
    return why;
  const X509* own = SSL_CTX_get0_certificate(made->native_handle());
  const auto begins = time_of(X509_get0_notBefore(own)), ends = time_of(X509_get0_notAfter(own));
  const std::lock_guard guard{lock_};
  context_ = made;
  begins_ = begins;
  ends_ = ends;
  return {};
}

std::shared_ptr<asio::ssl::context> tls_identity::context() const {
  const std::lock_guard guard{lock_};
  return context_;
}

std::string tls_identity::warning(system_clock::time_point now) const {
  const std::lock_guard guard{lock_};
  const auto name = "the certificate " + files_.certificate.string();
  if (now >= ends_)
    return name + " expired at " + format_rfc3339(ends_) + ": clients will refuse it";
  if (now < begins_)
    return name + " is good from " + format_rfc3339(begins_) + " on only: clients will refuse it";
  return {};
}

} // namespace troupe::gateway
