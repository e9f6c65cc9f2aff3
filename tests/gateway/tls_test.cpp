// Certificates of a listener: what is read, what is refused, and what a change means.
#include "gateway/tls.hpp"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>

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

} // namespace
} // namespace troupe::gateway::test
