#include "storage/sources/location.hpp"

#include <gtest/gtest.h>

#include "storage/errors.hpp"

namespace troupe::storage {
namespace {

TEST(location, takes_references_apart) {
  const auto hub = parse_location("hf://Qwen/Qwen2.5-0.5B@refs/pr/1");
  ASSERT_TRUE(hub);
  EXPECT_EQ(hub->kind, location_kind::hub);
  EXPECT_EQ(hub->repository, "Qwen/Qwen2.5-0.5B");
  EXPECT_EQ(hub->revision, "refs/pr/1");
  EXPECT_EQ(hub->model_name, "Qwen/Qwen2.5-0.5B");
  EXPECT_EQ(parse_location("hf://gpt2")->revision, "main");
  const auto s3 = parse_location("s3://my-bucket/a/b c/?region=eu-west-3&addressing=virtual");
  ASSERT_TRUE(s3) << describe(s3.error());
  EXPECT_EQ(s3->bucket, "my-bucket");
  EXPECT_EQ(s3->prefix, "a/b c");
  EXPECT_EQ(s3->region, "eu-west-3");
  EXPECT_EQ(s3->addressing, "virtual");
  EXPECT_EQ(s3->model_name, "b c");
  const auto http = parse_location("HTTPS://joe:se%40cret@Example.com:8443/models/tiny/#part");
  ASSERT_TRUE(http) << describe(http.error());
  EXPECT_EQ(http->kind, location_kind::http);
  EXPECT_EQ(http->credentials, "joe:se@cret");
  EXPECT_EQ(http->text.find("se"), std::string::npos) << "no secrets in " << http->text;
  EXPECT_EQ(http->model_name, "tiny");
  const auto file = parse_location("file:///srv/my%20models/x/");
  ASSERT_TRUE(file);
  EXPECT_EQ(file->path, "/srv/my models/x/");
  EXPECT_EQ(file->model_name, "x");
  EXPECT_EQ(parse_location("../models/x")->path, "../models/x");
}

TEST(location, its_text_means_the_same_again) {
  for (const auto* text :
       {"hf://a/b", "hf://a/b@v1", "s3://bucket", "s3://bucket/p?endpoint=http://127.0.0.1:9000",
        "s3://bucket/p%20q?region=x&addressing=path", "http://host:81/a/b/", "https://[::1]/x",
        "file:///a%20b/c", "/plain/path", "relative"}) {
    const auto once = parse_location(text);
    ASSERT_TRUE(once) << text << ": " << describe(once.error());
    const auto twice = parse_location(once->text);
    ASSERT_TRUE(twice) << once->text;
    EXPECT_EQ(once->text, twice->text);
    EXPECT_EQ(once->kind, twice->kind);
    EXPECT_EQ(once->url, twice->url);
    EXPECT_EQ(once->prefix, twice->prefix);
    EXPECT_EQ(once->endpoint, twice->endpoint);
    EXPECT_EQ(once->path, twice->path);
    EXPECT_EQ(once->model_name, twice->model_name);
  }
}

TEST(location, what_makes_no_sense_is_refused_with_the_text_in_the_message) {
  for (const auto* text : {"",
                           "hf://",
                           "hf://a/b/c",
                           "hf://a/../b",
                           "hf://a/b@",
                           "hf://a/b@../x",
                           "hf://-a/b",
                           "hf://a--b/c",
                           "s3://",
                           "s3://ab",
                           "s3://UP!/x",
                           "s3://bucket/a//b",
                           "s3://bucket/../x",
                           "s3://bucket/x?what=1",
                           "s3://bucket/x?endpoint=file:///etc",
                           "s3://bucket/x?region=",
                           "http://",
                           "https://host/a?query",
                           "ftp://host/x",
                           "gopher://x",
                           "file://host/x",
                           "hf://a/b\nc"}) {
    const auto got = parse_location(text);
    ASSERT_FALSE(got) << text;
    EXPECT_EQ(got.error(), errc::bad_reference) << text;
  }
  EXPECT_NE(describe(parse_location("ftp://h/x").error()).find("ftp://h/x"), std::string::npos);
  EXPECT_FALSE(parse_location(std::string(3000, 'x')));
  const auto why = describe(parse_location("http://joe:se@cret@h/x?q=1").error());
  EXPECT_NE(why.find("http://h/x"), std::string::npos) << why;
  EXPECT_EQ(why.find("cret"), std::string::npos) << why;
}

TEST(percent, encoding_and_decoding_are_inverse_and_strict) {
  EXPECT_EQ(percent_encode("a b/c+d~é", true), "a%20b/c%2Bd~%C3%A9");
  EXPECT_EQ(percent_encode("a/b", false), "a%2Fb");
  EXPECT_EQ(percent_decode("a%20b%2fc%"), "a b/c%");
  EXPECT_EQ(percent_decode("%zz%4"), "%zz%4");
  std::string all;
  for (int i = 0; i < 256; ++i)
    all += static_cast<char>(i);
  EXPECT_EQ(percent_decode(percent_encode(all, false)), all);
}

} // namespace
} // namespace troupe::storage
