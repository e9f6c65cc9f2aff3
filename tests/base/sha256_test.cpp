#include "base/sha256.hpp"

#include <gtest/gtest.h>

namespace troupe {
namespace {

TEST(sha256, agrees_with_the_published_examples) {
  // FIPS 180-4 examples, NIST.
  EXPECT_EQ(to_hex(sha256("")), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(to_hex(sha256("abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(to_hex(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(to_hex(sha256(std::string(1'000'000, 'a'))),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(sha256, digests_are_read_and_compared) {
  const auto digest = sha256("abc");
  EXPECT_EQ(digest_from_hex(to_hex(digest)), digest);
  EXPECT_FALSE(digest_from_hex("ab"));
  EXPECT_FALSE(digest_from_hex(std::string(64, 'g')));
  auto other = digest;
  EXPECT_TRUE(equal_in_constant_time(digest, other));
  other[31] ^= 1;
  EXPECT_FALSE(equal_in_constant_time(digest, other));
}

} // namespace
} // namespace troupe
