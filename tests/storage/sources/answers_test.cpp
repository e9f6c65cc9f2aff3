// What servers answer, taken apart: header fields, listings, profiles.
#include <gtest/gtest.h>

#include "storage/errors.hpp"
#include "storage/sources/http.hpp"
#include "storage/sources/http_range.hpp"
#include "storage/sources/hub_source.hpp"
#include "storage/sources/s3_credentials.hpp"
#include "storage/sources/s3_listing.hpp"

namespace troupe::storage {
namespace {

using std::chrono::milliseconds;

TEST(content_range, is_taken_apart_or_refused) {
  const auto got = parse_content_range("bytes 5-9/10");
  ASSERT_TRUE(got);
  EXPECT_EQ(got->part.offset, 5u);
  EXPECT_EQ(got->part.length, 5u);
  EXPECT_EQ(got->total, 10u);
  EXPECT_FALSE(parse_content_range("bytes 0-0/*")->total);
  for (const auto* bad :
       {"", "bytes", "bytes 5-4/10", "bytes 0-10/10", "bytes -5/10", "bytes 1-x/3", "octets 0-1/2",
        "bytes 0-1", "bytes */10", "bytes 0-18446744073709551615/18446744073709551615"})
    EXPECT_FALSE(parse_content_range(bad)) << bad;
}

TEST(retry_after, is_seconds_or_a_date) {
  EXPECT_EQ(parse_retry_after("0"), milliseconds{0});
  EXPECT_EQ(parse_retry_after("120"), milliseconds{120'000});
  EXPECT_FALSE(parse_retry_after("-1"));
  EXPECT_FALSE(parse_retry_after("soon"));
  EXPECT_FALSE(parse_retry_after(""));
  EXPECT_FALSE(parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT"));
  EXPECT_GT(parse_retry_after("Wed, 21 Oct 2099 07:28:00 GMT"), milliseconds{1'000'000});
  EXPECT_LE(parse_retry_after("999999999999"), std::chrono::hours{24 * 366});
}

TEST(strong_version, is_an_etag_without_a_mark_or_a_date_that_will_not_come_again) {
  const auto of = [](std::map<std::string, std::string> fields) {
    return strong_version_of({.status = 200, .url = {}, .fields = std::move(fields)});
  };
  const std::string day = "Wed, 21 Oct 2015 07:";
  const auto modified =
      std::pair<const std::string, std::string>{"last-modified", day + "28:00 GMT"};
  EXPECT_EQ(of({{"etag", R"("abc")"}}), R"("abc")");
  EXPECT_EQ(of({{"etag", R"(W/"abc")"}}), "");
  EXPECT_EQ(of({{"etag", R"(W/"abc")"}, modified, {"date", day + "58:00 GMT"}}), "");
  EXPECT_EQ(of({{"etag", "abc"}}), "");
  EXPECT_EQ(of({modified, {"date", day + "29:00 GMT"}}), "modified " + modified.second);
  EXPECT_EQ(of({modified, {"date", day + "28:59 GMT"}}), "");
  EXPECT_EQ(of({modified, {"date", "now"}}), "");
  EXPECT_EQ(of({modified}), "");
  EXPECT_EQ(of({{"last-modified", "lately"}, {"date", day + "29:00 GMT"}}), "");
  EXPECT_EQ(of({}), "");
}

TEST(status, tells_what_passes_from_what_does_not) {
  const auto of = [](long status) {
    return error_of({.status = status, .url = {}, .fields = {}}, "x");
  };
  for (const long passing : {408, 425, 429, 500, 502, 503, 504})
    EXPECT_EQ(of(passing), errc::unavailable) << passing;
  EXPECT_EQ(of(401), errc::denied);
  EXPECT_EQ(of(403), errc::denied);
  EXPECT_EQ(of(404), errc::not_found);
  EXPECT_EQ(of(416), errc::changed);
  EXPECT_EQ(of(418), errc::unreadable);
  const auto why = error_of({.status = 503, .url = {}, .fields = {{"retry-after", "7"}}}, "x");
  EXPECT_EQ(wanted_pause(why), milliseconds{7000});
  EXPECT_FALSE(wanted_pause(of(500)));
}

TEST(s3_listing, is_read_with_namespaces_and_entities) {
  const auto got = parse_s3_listing(
      R"(<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
      <IsTruncated>true</IsTruncated><Contents><Key>a&amp;b/c.json</Key><Size>12</Size>
      <ETag>&quot;abc-2&quot;</ETag><Owner><ID>x</ID></Owner></Contents>
      <NextContinuationToken>t=</NextContinuationToken></ListBucketResult>)",
      "test");
  ASSERT_TRUE(got) << describe(got.error());
  ASSERT_EQ(got->objects.size(), 1u);
  EXPECT_EQ(got->objects[0].key, "a&b/c.json");
  EXPECT_EQ(got->objects[0].etag, "\"abc-2\"");
  EXPECT_EQ(got->objects[0].size_bytes, 12u);
  EXPECT_EQ(got->next, "t=");
}

TEST(s3_listing, that_makes_no_sense_is_refused) {
  for (const auto* bad :
       {"", "<", "<html/>", "<ListBucketResult>", "<Error><Code>NoSuchBucket</Code></Error>",
        "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        "<ListBucketResult><Contents><Size>1</Size></Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Key>a</Key><Size>1x</Size></Contents></ListBucketResult>",
        "<!DOCTYPE a [<!ENTITY b 'c'>]><ListBucketResult></ListBucketResult>"})
    EXPECT_FALSE(parse_s3_listing(bad, "test")) << bad;
  EXPECT_EQ(s3_refusal("<Error><Code>A</Code><Message>b</Message></Error>"), "A: b");
  EXPECT_EQ(s3_refusal("no xml"), "");
}

TEST(hub_listing, has_versions_and_checksums) {
  const std::string commit(40, 'a'), blob(40, 'b'), digest(64, 'c');
  const auto got = parse_hub_listing(R"({"sha": ")" + commit + R"(", "siblings": [
        {"rfilename": "x/w.safetensors", "size": 3, "blobId": ")" +
                                         blob + R"(", "lfs": {"sha256": ")" + digest +
                                         R"(", "size": 9, "pointerSize": 134}},
        {"rfilename": "config.json", "size": 2, "blobId": ")" +
                                         blob + R"("},
        {"rfilename": "bare.json"}]})",
                                     "test");
  ASSERT_TRUE(got) << describe(got.error());
  EXPECT_EQ(got->commit, commit);
  ASSERT_EQ(got->files.size(), 3u);
  EXPECT_EQ(got->files[0].path, "bare.json");
  EXPECT_EQ(got->files[0].version, "");
  EXPECT_EQ(got->files[1].version, blob);
  EXPECT_EQ(got->files[1].sha256, "");
  EXPECT_EQ(got->files[2].version, digest);
  EXPECT_EQ(got->files[2].sha256, digest);
  EXPECT_EQ(got->files[2].size_bytes, 9u);
}

TEST(hub_listing, that_makes_no_sense_is_refused) {
  const std::string head = R"({"sha": ")" + std::string(40, 'a') + R"(", "siblings": )";
  for (const auto& bad :
       {std::string{}, std::string{"[]"}, std::string{R"({"siblings": []})"}, head + "1}",
        head + "[1]}", head + R"([{"rfilename": "../x"}]})", head + R"([{"rfilename": "/x"}]})",
        head + R"([{"rfilename": "x", "lfs": {"sha256": "zz", "size": 1}}]})",
        head + R"([{"rfilename": "x"}, {"rfilename": "x"}]})"})
    EXPECT_EQ(parse_hub_listing(bad, "test").error(), errc::malformed) << bad;
}

TEST(aws_profiles, are_read_with_nested_blocks_and_comments) {
  auto got = parse_aws_profiles("# c\n[default]\naws_access_key_id = A\r\n; x\n"
                                "[profile  work ]\nregion=eu\ns3 =\n  addressing_style = path\n"
                                "\tendpoint_url = http://h\nlast = 1\nnonsense\n[broken\nk = v\n");
  EXPECT_EQ(got["default"]["aws_access_key_id"], "A");
  EXPECT_EQ(got["work"]["region"], "eu");
  EXPECT_EQ(got["work"]["s3.addressing_style"], "path");
  EXPECT_EQ(got["work"]["s3.endpoint_url"], "http://h");
  EXPECT_EQ(got["work"]["last"], "1");
}

TEST(instance_credentials, need_key_and_secret) {
  const auto got = parse_instance_credentials(
      R"({"AccessKeyId": "A", "SecretAccessKey": "S", "Token": "T",
          "Expiration": "2030-01-02T03:04:05Z"})",
      "test");
  ASSERT_TRUE(got);
  EXPECT_EQ(got->session_token, "T");
  EXPECT_EQ(std::chrono::system_clock::to_time_t(got->expires), 1893553445);
  EXPECT_FALSE(parse_instance_credentials(R"({"AccessKeyId": "A"})", "test"));
  EXPECT_FALSE(parse_instance_credentials("<html>", "test"));
}

} // namespace
} // namespace troupe::storage
