// Certificates of a listener: what is read, what is refused, and what a change means.
#include "gateway/tls.hpp"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>

#include <asio/buffer.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/read_until.hpp>
#include <asio/ssl.hpp>
#include <asio/write.hpp>
#include <gtest/gtest.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "gateway/errors.hpp"
#include "gateway_fixture.hpp"

namespace troupe::gateway::test {
namespace {

void discard(FILE* file) { std::fclose(file); }

/// A self-signed certificate with a key of its own, good in 2020 to 2119, as cert.pem and key.pem.
void issue(const std::filesystem::path& dir) {
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key{EVP_EC_gen("P-256"), EVP_PKEY_free};
  const std::unique_ptr<X509, decltype(&X509_free)> made{X509_new(), X509_free};
  auto* x = made.get();
  ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
  ASN1_TIME_set_string(X509_getm_notBefore(x), "20200101000000Z");
  ASN1_TIME_set_string(X509_getm_notAfter(x), "21200101000000Z");
  X509_set_pubkey(x, key.get());
  X509_sign(x, key.get(), EVP_sha256());
  const auto open = [&](const char* name) {
    return std::unique_ptr<FILE, decltype(&discard)>{std::fopen((dir / name).c_str(), "w"),
                                                     discard};
  };
  PEM_write_X509(open("cert.pem").get(), x);
  PEM_write_PrivateKey(open("key.pem").get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr);
}

class tls_test : public gateway_fixture {
protected:
  void SetUp() override {
    auto name = (std::filesystem::temp_directory_path() / "troupe-tls-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    dir = name;
    issue(dir);
  }
  void TearDown() override { std::filesystem::remove_all(dir); }
  auto load() { return tls_identity::load({dir / "cert.pem", dir / "key.pem"}); }
  void write(const char* name, const std::string& text) {
    std::ofstream{dir / name, std::ios::binary} << text;
  }
  void expect_refused(const std::string& told) {
    const auto loaded = load();
    ASSERT_FALSE(loaded) << told;
    EXPECT_EQ(loaded.error(), errc::bad_certificate);
    EXPECT_NE(describe(loaded.error()).find(told), std::string::npos) << describe(loaded.error());
  }
  std::filesystem::path dir;
};

TEST_F(tls_test, files_that_cannot_be_used_are_named) {
  write("cert.pem", "x");
  expect_refused("cert.pem holds no certificate");
  write("cert.pem", "");
  expect_refused("cert.pem: the file is empty");
  std::filesystem::remove(dir / "cert.pem");
  expect_refused("cert.pem: No such file");
  issue(dir);
  write("key.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
  expect_refused("key.pem holds no private key");
}

TEST_F(tls_test, a_failed_reload_keeps_what_was_there_and_a_good_one_is_another) {
  const auto identity = load();
  ASSERT_TRUE(identity) << describe(identity.error());
  const auto before = (*identity)->context();
  std::filesystem::remove(dir / "key.pem");
  EXPECT_EQ((*identity)->reload(), errc::bad_certificate);
  EXPECT_EQ((*identity)->context(), before);
  issue(dir);
  EXPECT_FALSE((*identity)->reload());
  EXPECT_NE((*identity)->context(), before);
  std::filesystem::create_directory(dir / "other");
  issue(dir / "other");
  std::filesystem::rename(dir / "other/key.pem", dir / "key.pem");
  const auto why = (*identity)->reload();
  EXPECT_NE(describe(why).find("is not that of the certificate"), std::string::npos)
      << describe(why);
}

TEST_F(tls_test, a_certificate_out_of_its_time_is_warned_of) {
  const auto identity = load();
  ASSERT_TRUE(identity);
  const auto year = [](int which) {
    return std::chrono::sys_days{std::chrono::year{which} / 6 / 1};
  };
  EXPECT_EQ((*identity)->warning(year(2021)), "");
  EXPECT_NE((*identity)->warning(year(2121)).find("expired at 2120-01-01"), std::string::npos);
  EXPECT_NE((*identity)->warning(year(2019)).find("good from 2020-01-01"), std::string::npos);
}

TEST_F(tls_test, plain_http_is_told_what_is_spoken) {
  server_options options;
  options.tls = *load();
  start(options);
  const auto answer = get("/health");
  EXPECT_EQ(answer.status, 400);
  EXPECT_EQ(error_of(answer)["code"], "wants_tls");
  auto client = connect();
  client.send(std::string(64, '\0'));
  EXPECT_TRUE(client.read_until("never").find("HTTP") == std::string::npos) << "it ended";
}

/// A blocking client that trusts whoever answers: certificates are not what it tests.
class tls_client {
public:
  explicit tls_client(uint16_t port) {
    stream_.next_layer().connect({asio::ip::address_v4::loopback(), port});
    stream_.handshake(asio::ssl::stream_base::client);
  }
  void send(const std::string& bytes) { asio::write(stream_, asio::buffer(bytes)); }
  /// What came up to and with `text`, or up to the end.
  std::string read_until(const std::string& text) {
    asio::error_code why;
    asio::read_until(stream_, asio::dynamic_buffer(buffer_), text, why);
    const auto at = buffer_.find(text);
    const auto out = buffer_.substr(0, at == std::string::npos ? at : at + text.size());
    buffer_.erase(0, out.size());
    return out;
  }
  /// Without a word of TLS.
  void leave() { stream_.next_layer().close(); }

private:
  asio::io_context io_;
  asio::ssl::context context_{asio::ssl::context::tls_client};
  asio::ssl::stream<asio::ip::tcp::socket> stream_{io_, context_};
  std::string buffer_;
};

/// The first bytes that a client sends.
std::string client_hello() {
  asio::ssl::context context{asio::ssl::context::tls_client};
  const std::unique_ptr<SSL, decltype(&SSL_free)> session{SSL_new(context.native_handle()),
                                                          SSL_free};
  BIO* out = BIO_new(BIO_s_mem());
  SSL_set_bio(session.get(), BIO_new(BIO_s_mem()), out); // which own them
  SSL_set_connect_state(session.get());
  SSL_do_handshake(session.get());
  char* bytes = nullptr;
  const auto size = BIO_get_mem_data(out, &bytes);
  return {bytes, static_cast<size_t>(size)};
}

TEST_F(tls_test, requests_streams_and_refusals_go_through) {
  server_options options;
  options.tls = *load();
  options.body_bytes_max = 1000;
  start(options);
  tls_client client{edge->port()};
  for (int i = 0; i < 3; ++i) {
    client.send(format_post("/v1/chat/completions", chat_stream_body));
    const auto head = client.read_until("\r\n\r\n");
    EXPECT_TRUE(head.starts_with("HTTP/1.1 200 ")) << head;
    EXPECT_TRUE(client.read_until("data: [DONE]\n\n\r\n0\r\n\r\n").ends_with("0\r\n\r\n"));
  }
  client.send("POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"
              "Expect: 100-continue\r\n\r\n");
  EXPECT_EQ(client.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("nope");
  EXPECT_TRUE(client.read_until("}}").starts_with("HTTP/1.1 400 "));
  client.send("POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n");
  EXPECT_TRUE(client.read_until("}}").starts_with("HTTP/1.1 413 "));
  EXPECT_EQ(client.read_until("never"), "") << "it was closed";
}

TEST_F(tls_test, a_client_that_leaves_its_stream_stops_what_it_asked_for) {
  server_options options;
  options.tls = *load();
  start(options);
  node.set_script([](invocation& one) { one.sink->on_accepted(7); });
  tls_client client{edge->port()};
  client.send(format_post("/v1/chat/completions", chat_stream_body));
  const auto running = node.wait_invocation(0);
  ASSERT_TRUE(running);
  client.leave();
  EXPECT_TRUE(running->wait_cancelled());
}

TEST_F(tls_test, clients_that_leave_within_the_handshake_leave_nothing_behind) {
  server_options options;
  options.tls = *load();
  options.connections_max = 8; // what is left behind would soon be too much
  start(options);
  const auto hello = client_hello();
  ASSERT_GT(hello.size(), 100u);
  for (size_t size = 0; size <= hello.size(); size += 16) {
    auto client = connect();
    client.send(hello.substr(0, size));
    if (size % 32 == 0) {
      client.finish_sending();
      client.read_until("never"); // up to the end
    }
  }
  tls_client client{edge->port()};
  client.send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_TRUE(client.read_until("\r\n\r\n").starts_with("HTTP/1.1 200 "));
}

TEST_F(tls_test, open_connections_keep_the_certificate_that_they_began_with) {
  server_options options;
  options.tls = *load();
  start(options);
  tls_client before{edge->port()};
  issue(dir);
  ASSERT_FALSE(options.tls->reload());
  tls_client after{edge->port()};
  for (auto* client : {&before, &after, &before}) {
    client->send("GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_TRUE(client->read_until("}").starts_with("HTTP/1.1 200 "));
  }
}

} // namespace
} // namespace troupe::gateway::test
